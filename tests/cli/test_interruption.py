"""Killing the real command at arbitrary moments, and full disks."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from tests.training.runs import TINY_FLAGS, weights, write_text


def command(folder, out, *more):
    data = folder / "text.txt"
    if not data.exists():
        write_text(folder)
    common = ["--data", str(data), "--out", str(out), "--cache-dir", str(folder / "cache")]
    flags = [*TINY_FLAGS, "--steps", "60", "--eval-every", "20", "--checkpoint-every", "5"]
    return [sys.executable, "-m", "reformer.cli.main", "train", "quickstart", *common, *flags, *more]


def start(arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(arguments):
    process = start(arguments)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(command(folder, folder / "run"))
    return folder


def wait_for_first_checkpoint(process, out):
    while process.poll() is None and not list((out / "checkpoints").glob("step-*")):
        time.sleep(0.01)


@pytest.mark.parametrize("trial", range(2))
def test_kill_9_at_a_random_moment_then_resume_ends_with_the_same_bytes(uninterrupted, tmp_path, trial):
    out = tmp_path / "run"
    arguments = command(uninterrupted, out)
    process = start(arguments)
    wait_for_first_checkpoint(process, out)
    time.sleep(random.Random(trial).uniform(0.0, 1.0))
    process.kill()
    process.communicate()
    said = finish([*arguments, "--resume"])
    assert "continuing from step" in said
    assert weights(out, 60) == weights(uninterrupted / "run", 60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_exits_cleanly_and_says_how_to_continue(uninterrupted, tmp_path, number):
    out = tmp_path / "run"
    arguments = command(uninterrupted, out)
    process = start(arguments)
    wait_for_first_checkpoint(process, out)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"stopped by {signal.Signals(number).name}" in said
    assert "Traceback" not in said
    assert "--resume" in said
    finish([*arguments, "--resume"])
    assert weights(out, 60) == weights(uninterrupted / "run", 60)


# A limit on the size of files stands for a full disk: the system refuses the write in the same place, and it needs no
# privileges. It is set inside the child, after its imports.
FULL_DISK = """
import resource, signal, sys
import torch
from reformer.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    out = tmp_path / "run"
    finish(command(tmp_path, out, "--steps", "10"))
    before = weights(out, 10)
    arguments = command(tmp_path, tmp_path / "other", "--steps", "10")[3:]
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, "30000", *arguments], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 2, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "free" in last
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "other" / "checkpoints").glob("step-*"))
    assert weights(out, 10) == before
