"""The C++ library as an engine: when it is not there, and what interrupts, threads, forks and a lack of memory do to it."""

import multiprocessing
import subprocess
import sys
import threading
import time
import warnings
from ctypes import c_int64
from pathlib import Path

import pytest
import torch

from reformer.ops import choose_implementation, local_attention, lsh_attention, sort_by_bucket
from reformer.ops.attention.native import library
from reformer.ops.hashing import sort_by_torch
from reformer.testing import lsh_inputs

from .helpers import needs_native, refuses

CPU = torch.device("cpu")
INPUTS = lsh_inputs(length=40, dtype=torch.float32)


def attention(impl: str = "auto") -> torch.Tensor:
    return lsh_attention(INPUTS.qk, INPUTS.v, INPUTS.buckets, chunk_len=8, impl=impl)


def test_without_the_library_auto_says_why_and_eager_runs(monkeypatch: pytest.MonkeyPatch):
    expected = attention("eager")
    monkeypatch.setattr(library, "installed", lambda name, folder: None)
    monkeypatch.setattr(library, "load", library.load.__wrapped__)
    choice = choose_implementation("auto", CPU)
    assert choice.name == "eager" and "not native: they were not built" in choice.reason
    assert torch.equal(attention(), expected)
    assert torch.equal(sort_by_bucket(INPUTS.buckets), sort_by_torch(INPUTS.buckets, None))
    for call in (attention, lambda impl: local_attention(INPUTS.qk, None, INPUTS.v, window=3, impl=impl)):
        with refuses(ValueError, "impl='native' cannot serve", "no C++ compiler", "reinstall", "impl='auto'"):
            call("native")


@needs_native
def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = Path(library.load()._name)
    for index, struct in enumerate(library.STRUCTS):
        longer = type("Longer", (struct,), {"_fields_": (("one_more", c_int64),)})
        monkeypatch.setattr(library, "STRUCTS", (*library.STRUCTS[:index], longer, *library.STRUCTS[index + 1 :]))
        assert library.open_library(path) == f"{path.name} is of another version of reformer-torch; reinstall it"
        monkeypatch.undo()
    (tmp_path / "text.so").write_text("no library")
    assert "text.so does not load: " in library.open_library(tmp_path / "text.so")
    assert not isinstance(library.open_library(path), str)


@needs_native
@pytest.mark.parametrize(
    ("tensor", "fact"),
    [
        (INPUTS.qk.double(), "take float32 and bfloat16, not torch.float64"),
        (INPUTS.qk.half(), "take float32 and bfloat16, not torch.float16"),
        (INPUTS.qk.to("meta"), "for CPU tensors, not meta"),
    ],
    ids=["float64", "float16", "meta"],
)
def test_what_it_cannot_serve_is_refused_by_name_and_passed_over_by_auto(tensor: torch.Tensor, fact: str):
    with refuses(ValueError, "impl='native' cannot serve", fact, "impl='auto'"):
        choose_implementation("native", tensor.device, tensor.dtype)
    choice = choose_implementation("auto", tensor.device, tensor.dtype)
    assert choice.name == "eager" and fact in choice.reason


@needs_native
def test_auto_takes_it():
    assert choose_implementation("auto", CPU).name == "native"
    assert choose_implementation("auto", CPU, torch.bfloat16).name == "native"
    assert torch.equal(attention(), attention("native"))


def test_too_little_memory_is_a_memory_error():
    if library.missing() is not None:
        pytest.skip(str(library.missing()))
    # More scratch memory than there are addresses; nothing else of the request is looked at.
    with refuses(MemoryError, "scratch space of 1 threads"):
        library.call("hash", library.Hash(batch=1, heads=1, length=1, width=2**45))
    assert attention("native").isfinite().all()


# Whole buckets: one task of the backward pass is a row, and a call takes many seconds.
_INTERRUPTED = """
import itertools, os, pathlib, signal, sys, threading, time, torch
from reformer.ops import Reach, lsh_attention
from reformer.ops.attention.native import library
loaded = library.open_library(pathlib.Path(sys.argv[1]))
library.load = lambda: loaded
# What a shell starts in the background ignores Ctrl-C, and so would this process.
signal.signal(signal.SIGINT, signal.default_int_handler)
L, when = 100_000, []
qk, buckets = torch.randn(1, 1, L, 64), torch.zeros(1, 1, 1, L, dtype=torch.int64)
order, lse, alone = torch.arange(L).view(1, 1, 1, L), torch.zeros(1, 1, L), torch.zeros(1, 1, L, dtype=torch.bool)
options = (0.0, 1.0, *Reach.lsh(chunk_len=64, pattern="bucket"), "native")
tensors = (qk, None, qk, buckets, order, None, None)
calls = {
    "forward": lambda: torch.ops.reformer.attention(*tensors, *options),
    "backward": lambda: torch.ops.reformer.attention_backward(qk, lse, qk, lse, alone, *tensors, *options),
}
short = [x[..., :64, :] for x in (qk, qk)] + [buckets[..., :64]]
expected = lsh_attention(*short, chunk_len=64, impl="native")
def interrupt():
    when.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
for threads, (name, call) in itertools.product((1, 2), calls.items()):
    torch.set_num_threads(threads)
    threading.Timer(0.3, interrupt).start()
    try:
        call()
    except KeyboardInterrupt:
        print(f"{name}-{threads}", time.monotonic() - when[-1])
    assert torch.equal(lsh_attention(*short, chunk_len=64, impl="native"), expected)
"""


@needs_native
def test_ctrl_c_stops_a_call_and_the_process_goes_on():
    command = [sys.executable, "-c", _INTERRUPTED, library.load()._name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    waited = dict(line.split() for line in done.stdout.splitlines())
    assert set(waited) == {"forward-1", "backward-1", "forward-2", "backward-2"}
    assert all(float(seconds) < 1.0 for seconds in waited.values()), waited


@needs_native
def test_other_threads_run_during_a_call():
    L = 10_000
    qk, buckets = torch.randn(1, 1, L, 64), torch.zeros(1, 1, 1, L, dtype=torch.int64)
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.wait(0.002):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        start = time.monotonic()
        lsh_attention(qk, qk, buckets, chunk_len=64, pattern="bucket", impl="native")
        end = time.monotonic()
    finally:
        done.set()
        thread.join()
    # A held lock would let it run before and after the call only.
    inside = [t for t in ticks if start + 0.2 * (end - start) < t < end - 0.2 * (end - start)]
    assert len(inside) >= 3, (end - start, len(ticks))


@needs_native
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_process_can_use_it():
    # As a data loader's workers: the parent has a pool of threads, of which the child has none.
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        expected = attention("native")
    finally:
        torch.set_num_threads(threads)

    def child() -> None:
        torch.set_num_threads(1)
        sys.exit(0 if torch.equal(attention("native"), expected) else 1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
    assert process.exitcode == 0
