"""The annotations of ops and layers hold while their tests run: checked by beartype, in a process of its own, never in a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKED = ("tests/layers", "tests/ops/test_cross_attention.py", "tests/ops/test_cross_entropy.py")


@pytest.mark.timeout(900)
def test_annotations_of_ops_and_layers_hold_in_their_tests():
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "typecheck", "-p", "no:cacheprovider", *CHECKED]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join(["tests", *filter(None, [environment.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
