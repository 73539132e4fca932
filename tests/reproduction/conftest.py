import os
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2] / "reproduction"


@pytest.fixture(scope="session", autouse=True)
def _processes_find_it():
    """Scripts and writers in processes of their own import it also where it is not installed."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="session")
def shared_work(tmp_path_factory):
    """One folder of runs and corpora: experiments that ask for the same training share it here as they do for users."""
    return tmp_path_factory.mktemp("reproduce")
