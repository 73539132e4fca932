import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from reformer.training import checkpoint as module
from reformer.training.checkpoint import (
    CheckpointError,
    latest_checkpoint,
    list_checkpoints,
    read_checkpoint,
    restore_rng_state,
    rng_state,
    save_checkpoint,
    write_durably,
)

TENSORS = {
    "model": {"w": torch.arange(6.0).view(2, 3), "half": torch.randn(5).bfloat16(), "scalar": torch.tensor(7)},
    "optimizer": {"0.step": torch.tensor(3.0)},
    "empty": {},
}
STATE = {"lr": 0.1, "text": "é", "nested": {"list": [1, None, True]}}


class Killed(BaseException):
    """Stands for SIGKILL: not an Exception, so no clean-up code may run on it."""


def save(root, step, tensors=TENSORS, keep_last=3, **options):
    return save_checkpoint(root, step, tensors, {**STATE, "at": step}, keep_last=keep_last, **options)


def steps(root):
    return [read_checkpoint(path).step for path in list_checkpoints(root)]


def refuse_damage(line):
    raise AssertionError(line)


def test_round_trip_keeps_every_bit_dtype_and_shape(tmp_path):
    path = save(tmp_path / "checkpoints", 200)
    assert path.name == "step-00000200"
    back = read_checkpoint(path)
    assert (back.step, back.path, back.state) == (200, path, {**STATE, "at": 200})
    assert back.tensors.keys() == TENSORS.keys()
    for group, named in TENSORS.items():
        assert back.tensors[group].keys() == named.keys()
        for name, tensor in named.items():
            assert back.tensors[group][name].dtype == tensor.dtype
            torch.testing.assert_close(back.tensors[group][name], tensor, rtol=0, atol=0)


def test_tensors_may_share_memory_or_be_strided(tmp_path):
    base = torch.randn(4, 6)
    named = {"all": base, "tied": base, "rows": base[1:3], "transposed": base.t(), "every_other": base[:, ::2]}
    named["parameter"] = torch.nn.Parameter(base)
    back = read_checkpoint(save(tmp_path, 1, {"model": named})).tensors["model"]
    for name, tensor in named.items():
        torch.testing.assert_close(back[name], tensor.detach(), rtol=0, atol=0)


def test_a_read_checkpoint_may_be_changed_and_pruned_without_changing_either_side(tmp_path):
    first = read_checkpoint(save(tmp_path, 1))
    first.tensors["model"]["w"].add_(1)
    assert read_checkpoint(first.path).tensors["model"]["w"][0, 0] == 0
    shutil.rmtree(first.path)
    assert first.tensors["model"]["w"].sum() == 21


def test_files_have_the_mode_of_ordinary_files(tmp_path):
    path = save(tmp_path, 1)
    assert len({os.stat(file).st_mode for file in path.iterdir()}) == 1


def test_any_flipped_bit_is_refused_or_harmless(tmp_path):
    path = save(tmp_path, 1)
    before = read_checkpoint(path)
    files = sorted(path.iterdir())
    generator = random.Random(0)
    refusals = []
    for trial in range(240):
        file = files[trial % len(files)]
        data = file.read_bytes()
        position = generator.randrange(len(data))
        flipped = bytes([data[position] ^ (1 << generator.randrange(8))])
        file.write_bytes(data[:position] + flipped + data[position + 1 :])
        try:
            after = read_checkpoint(path)
            assert (after.step, after.state) == (before.step, before.state)
        except CheckpointError as error:
            refusals.append((file.name, str(error)))
        file.write_bytes(data)
    assert len(refusals) > 200  # what passes is white space and the like in state.json
    assert all(name in message and "\n" not in message for name, message in refusals)
    read_checkpoint(path)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "empty.safetensors", "state.json"])
def test_a_cut_or_missing_file_is_named(tmp_path, name):
    path = save(tmp_path, 1)
    whole = (path / name).read_bytes()
    for length in (0, 1, 7, len(whole) // 2, len(whole) - 2):
        (path / name).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=name):
            read_checkpoint(path)
    (path / name).write_bytes(whole + b"x")
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


def test_swapped_files_and_directories_are_refused(tmp_path):
    one, two = save(tmp_path, 1), save(tmp_path, 2)
    with pytest.raises(CheckpointError, match="step-00000003"):
        read_checkpoint(one.rename(tmp_path / "step-00000003"))
    shutil.copy(two / "state.json", tmp_path / "step-00000003")
    with pytest.raises(CheckpointError, match="says step 2"):
        read_checkpoint(tmp_path / "step-00000003")
    read_checkpoint(two.rename(tmp_path / "best"))


def test_a_valid_digest_does_not_lead_out_of_the_directory(tmp_path):
    path = save(tmp_path, 1)
    document = json.loads((path / "state.json").read_text())
    document["files"]["../model.safetensors"] = document["files"].pop("model.safetensors")
    document["sha256"] = module._digest(document)
    (path / "state.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="expected file names"):
        read_checkpoint(path)


@pytest.mark.parametrize("text", ["[]", "null", "[" * 100_000, "{}", '{"sha256": 1}'])
def test_foreign_json_is_refused(tmp_path, text):
    path = save(tmp_path, 1)
    (path / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"state\.json"):
        read_checkpoint(path)


def test_keep_last_and_protect(tmp_path):
    for step in (1, 2, 3, 10, 20):
        save(tmp_path, step, keep_last=2, protect=[2])
    assert steps(tmp_path) == [2, 10, 20]
    save(tmp_path, 5, keep_last=1)  # what was just written stays, though newer steps exist
    assert steps(tmp_path) == [5, 20]
    assert {path.name[:5] for path in tmp_path.iterdir()} == {"step-"}


def test_latest_skips_damaged_ones_and_tells(tmp_path):
    assert latest_checkpoint(tmp_path / "none", refuse_damage) is None
    for step in (1, 2, 3):
        save(tmp_path, step)
    (tmp_path / "step-00000003" / "model.safetensors").unlink()
    (tmp_path / "step-00000002" / "state.json").write_text("{")
    (tmp_path / "step-00000009").write_text("not a directory")
    told = []
    assert latest_checkpoint(tmp_path, told.append).step == 1
    assert [line.split(":")[0] for line in told] == [f"checkpoint step-0000000{step} is refused" for step in (3, 2)]
    assert "model.safetensors: missing" in told[0]


def kill_at_call(monkeypatch, number):
    """Raise Killed at the ``number``-th call of anything that touches the disk, before or half-way through it."""
    left = [number]

    def wrap(owner, name, half_way=None):
        real = getattr(owner, name)

        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                if half_way:
                    half_way(*args)
                raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    def half_a_file(_, path):
        path.write_bytes(b"half")

    def half_a_removal(path, **_):
        for file in list(path.iterdir())[:1]:
            file.unlink()

    wrap(module, "save_file", half_a_file)
    wrap(module.os, "rename")
    wrap(module.os, "fsync")
    wrap(module.shutil, "rmtree", half_a_removal)
    return left


@pytest.mark.parametrize("step", [3, 2], ids=["new step", "step that exists"])
def test_killed_at_any_moment_leaves_the_newest_finished_checkpoint(tmp_path, step):
    for number in range(1, 100):
        root = tmp_path / str(number)
        save(root, 1)
        save(root, 2)
        with pytest.MonkeyPatch.context() as patch:
            left = kill_at_call(patch, number)
            try:
                save(root, step, keep_last=1)
            except Killed:
                pass
            else:
                assert left[0] > 0
                break
        # Nothing under a real name is damaged, at most the new step is not there yet.
        found = latest_checkpoint(root, refuse_damage)
        assert found.step in {2, step}
        assert found.state["at"] == found.step
        save(root, 4, keep_last=1)
        assert [path.name for path in root.iterdir()] == ["step-00000004"]
    assert 10 < number < 99


def test_a_step_moved_aside_by_a_killed_process_comes_back(tmp_path):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    path.rename(tmp_path / "step-00000002.old")
    assert latest_checkpoint(tmp_path, refuse_damage).step == 2
    save(tmp_path, 3)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001", "step-00000002", "step-00000003"]


def test_a_process_really_killed_leaves_a_valid_checkpoint(tmp_path):
    code = (
        "import sys, itertools, torch; from pathlib import Path; from reformer.training.checkpoint import *\n"
        "tensors = {'model': {'w': torch.ones(200_000)}}\n"
        "for n in itertools.count():\n"
        "    save_checkpoint(Path(sys.argv[1]), n // 2, tensors, {}, keep_last=2)\n"
        "    print(n // 2, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "0\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    finished = [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    assert latest_checkpoint(tmp_path, refuse_damage).step >= max(finished, default=0)


DISK_FULL = [
    ("save_file", SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")),
    ("_write_synced", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    ("_write_synced", OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))),
]


@pytest.mark.parametrize(("function", "error"), DISK_FULL)
def test_a_full_disk_is_reported_and_harms_nothing(tmp_path, monkeypatch, function, error):
    save(tmp_path, 1)

    def full(*_):
        raise error

    monkeypatch.setattr(module, function, full)
    with pytest.raises(CheckpointError, match=r"step 2 was not written.* needs 46 bytes and has [\d,]+ free") as caught:
        save(tmp_path, 2)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert steps(tmp_path) == [1]


def test_a_real_limit_on_file_size_is_reported(tmp_path):
    code = (
        "import sys, resource, torch; from pathlib import Path; from reformer.training.checkpoint import *\n"
        "def save(step, size):\n"
        "    save_checkpoint(Path(sys.argv[1]), step, {'m': {'w': torch.ones(size)}}, {}, keep_last=2)\n"
        "save(1, 10)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: save(2, 1_000_000)\n"
        "except CheckpointError as error: print(error)\n"
    )
    output = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "needs 4,000,000 bytes" in output.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_root_that_is_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match=r"step 1 was not written: .*File exists"):
        save(tmp_path / "checkpoints", 1)


def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(CheckpointError, match="must be JSON values"):
        save_checkpoint(tmp_path, 1, TENSORS, {"tensor": torch.ones(1)}, keep_last=1)
    with pytest.raises(ValueError, match="keep_last 0"):
        save(tmp_path, 1, keep_last=0)
    with pytest.raises(CheckpointError, match="group name"):
        save(tmp_path, 1, {"a/b": {}})
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_unpickled():
    source = Path(module.__file__).read_text()
    assert "torch.load" not in source
    assert "pickle" not in source.replace("unpickled", "")


def draw():
    return (
        [random.random(), random.gauss(0, 1)],
        np.random.standard_normal(3).tolist(),  # noqa: NPY002 - the legacy generator is what is restored
        torch.randn(3).tolist(),
    )


def test_random_numbers_continue_after_a_round_trip(tmp_path):
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(3)
    draw()  # leaves a half-used Gaussian pair in Python's generator and in NumPy's
    state = rng_state()
    assert {tensor.dtype for tensor in state.values()} <= {torch.int64, torch.uint8}
    path = save(tmp_path, 1, {"rng": state})
    expected = [draw(), draw()]
    restore_rng_state(read_checkpoint(path).tensors["rng"])
    assert [draw(), draw()] == expected


def test_an_incomplete_random_state_is_refused():
    state = rng_state()
    del state["numpy"]
    with pytest.raises(CheckpointError, match="lacks \\['numpy'\\]"):
        restore_rng_state(state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_random_numbers_on_cuda_continue(tmp_path):
    torch.randn(3, device="cuda")
    path = save(tmp_path, 1, {"rng": rng_state()})
    expected = torch.randn(3, device="cuda")
    restore_rng_state(read_checkpoint(path).tensors["rng"])
    assert torch.equal(torch.randn(3, device="cuda"), expected)


def test_write_durably_replaces_or_leaves_alone(tmp_path, monkeypatch):
    path = tmp_path / "card.json"
    write_durably(path, b"one")
    write_durably(path, b"two")

    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(module.os, "rename", fail)
    with pytest.raises(OSError, match="full"):
        write_durably(path, b"three")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"two"]
