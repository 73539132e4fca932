import pytest


@pytest.fixture(scope="session")
def shared_work(tmp_path_factory):
    """One folder of runs and corpora: experiments that ask for the same training share it here as they do for users."""
    return tmp_path_factory.mktemp("reproduce")
