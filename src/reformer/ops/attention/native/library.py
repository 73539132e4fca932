"""The shared library of csrc/, loaded when it is first needed: its structs, and how a call ends.

The mirror images of the structs of csrc/abi.h are below; the library says their sizes and loading compares them.
"""

import ctypes
import functools
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_FILE_NAMES = ("libreformer_native.so", "libreformer_native.dylib", "reformer_native.dll")
_OK, _INTERRUPTED, _NO_MEMORY, _BAD_ORDER = range(4)
_Poll = ctypes.CFUNCTYPE(ctypes.c_int)


class Rows(Structure):
    """A tensor [batch, heads, length, width] whose last axis is contiguous."""

    _fields_ = (("data", c_void_p), ("batch", c_int64), ("head", c_int64), ("token", c_int64))


class Run(Structure):
    """How a call is run."""

    _fields_ = (("threads", c_int32), ("isa", c_int32), ("poll", _Poll))


class Plan(Structure):
    """Who sees whom."""

    _fields_ = (
        *((name, c_int64) for name in ("rows", "sharing", "length")),
        ("rounds", c_int32),
        *((name, c_void_p) for name in ("order", "places", "segments")),
        *((name, c_int64) for name in ("reach_back", "reach_ahead")),
        *((name, c_int32) for name in ("wrap", "chunk_len", "chunks_before", "chunks_after")),
    )


class PlanRequest(Structure):
    """What makes a plan."""

    _fields_ = (
        *((name, c_void_p) for name in ("order", "buckets")),
        *((name, c_int32) for name in ("order_bytes", "bucket_bytes")),
        ("batch_sharing", c_int64),
        *((name, c_int32) for name in ("causal", "exclude_self")),
        *((name, c_int64) for name in ("chunk_len", "chunks_before", "chunks_after")),
        ("chunks_per_run", c_int32),
        ("window", c_int64),
    )


class Attention(Structure):
    """The tensors and options of one attention call."""

    _fields_ = (
        *((name, c_int64) for name in ("batch", "heads", "length", "key_width", "value_width")),
        *((name, c_int32) for name in ("dtype", "shared", "causal", "exclude_self")),
        ("scale", c_float),
        ("drop", c_int32),
        *((name, c_uint32) for name in ("drop_seed", "drop_threshold")),
        ("drop_factor", c_float),
        *((name, Rows) for name in ("q", "k", "v")),
        *((name, c_void_p) for name in ("state",)),
        *((name, Rows) for name in ("accumulator", "out")),
        *((name, c_void_p) for name in ("lse", "alone")),
        ("grad_out", Rows),
        *((name, c_void_p) for name in ("grad_lse",)),
        *((name, Rows) for name in ("dq", "dk", "dv")),
    )


class Hash(Structure):
    """The tensors of one hashing call."""

    _fields_ = (
        *((name, c_int64) for name in ("batch", "heads", "length", "width")),
        *((name, c_int32) for name in ("dtype", "rounds", "factors", "columns")),
        ("factor", POINTER(c_int32)),
        ("x", Rows),
        *((name, c_void_p) for name in ("rotations", "buckets")),
    )


class Sort(Structure):
    """The tensors of one sorting call."""

    _fields_ = (
        *((name, c_int64) for name in ("rows", "rounds", "length")),
        ("buckets", c_void_p),
        ("bucket_bytes", c_int32),
        ("segments", c_void_p),
        ("sharing", c_int64),
        ("order", c_void_p),
    )


class Decode(Structure):
    """The next tokens of a generation, and its cache."""

    _fields_ = (
        *((name, c_int64) for name in ("batch", "heads", "tokens", "slots", "key_width", "value_width")),
        *((name, c_int32) for name in ("dtype", "shared", "exclude_self")),
        ("scale", c_float),
        *((name, c_int64) for name in ("chunk_len", "chunks_before", "chunks_after", "window", "most_seen")),
        *((name, c_int32) for name in ("rounds", "factors")),
        *((name, c_int64) for name in ("n_buckets", "columns")),
        ("factor", POINTER(c_int32)),
        ("rotations", c_void_p),
        *((name, Rows) for name in ("q", "k", "v")),
        *((name, c_void_p) for name in ("is_real", "counts", "keys", "values", "buckets")),
        *((name, c_void_p) for name in ("previous", "newest", "sizes", "order", "out", "scratch")),
    )


STRUCTS = (Rows, Run, Plan, PlanRequest, Attention, Hash, Sort, Decode)


def rows(x: Tensor) -> Rows:
    """A view of x [B, H, L, D] for the kernels; its last axis must be contiguous."""
    assert x.stride(-1) == 1 or x.shape[-1] <= 1
    return Rows(x.data_ptr(), *x.stride()[:3])


def compact_segments(segment_ids: Tensor) -> Tensor:
    """Segment ids [B, L] as the kernels take them: int32 in the same order, -1 for padding, numbered anew beyond int32."""
    if segment_ids.dtype == torch.int64 and segment_ids.numel() and int(segment_ids.max()) >= 2**31 - 1:
        segment_ids = torch.unique(segment_ids.clamp_min(-1), return_inverse=True)[1] - (segment_ids < 0).any().long()
    wide = segment_ids if segment_ids.dtype == torch.int64 else segment_ids.int()
    return wide.clamp_min(-1).int().contiguous()


def missing() -> str | None:
    """Why there is no library, None if there is one."""
    found = load()
    return found if isinstance(found, str) else None


@functools.cache
def instruction_sets() -> dict[str, int]:
    """The instruction sets that the library has kernels for and this processor runs, by name, the best last."""
    library = load()
    if isinstance(library, str):
        return {}
    found, index = {}, 0
    while (name := library.reformer_isa_name(index)) is not None:
        if library.reformer_isa_runs(index):
            found[name.decode()] = index
        index += 1
    return found


def chosen_instruction_set() -> int:
    """The kernels that run, an index into the library's list: -1 is the best this processor has. Tests replace this."""
    return -1


def call(name: str, *structs: Structure) -> None:
    """Call ``reformer_<name>`` with pointers to ``structs``; Ctrl-C stops it between two tiles.

    Runs on torch.get_num_threads() threads, with the GIL released. Raises MemoryError without scratch memory, ValueError
    if a given order is no permutation.
    """
    library = load()
    if isinstance(library, str):
        raise RuntimeError(f"the C++ kernels are not there: {library}")
    raised: list[BaseException] = []
    polls = _polls(raised)
    next(polls)
    run = Run(threads=torch.get_num_threads(), isa=chosen_instruction_set(), poll=_Poll(polls.__next__))
    status = getattr(library, f"reformer_{name}")(*(ctypes.byref(s) for s in structs), ctypes.byref(run))
    if status == _INTERRUPTED:
        raise raised[0] if raised else KeyboardInterrupt
    if status == _NO_MEMORY:
        raise MemoryError(f"not enough memory for the scratch space of {run.threads} threads")
    if status == _BAD_ORDER:
        raise ValueError("order must hold every token once in each round, as sort_by_bucket(buckets, segment_ids) does")
    assert status == _OK, status


def call_short(name: str, struct: Structure) -> None:
    """Call ``reformer_<name>``, which is over before anybody could want to stop it."""
    library = load()
    run = Run(threads=torch.get_num_threads(), isa=chosen_instruction_set())
    status = getattr(library, f"reformer_{name}")(ctypes.byref(struct), ctypes.byref(run))
    assert status == _OK, status


def decode_scratch(struct: Decode) -> int:
    """Floats of scratch memory that each thread of ``reformer_decode`` needs."""
    return int(load().reformer_decode_scratch(ctypes.byref(struct)))


def _polls(raised: list[BaseException]) -> Iterator[int]:
    # Called from C now and then: 0 to go on, 1 to stop. Entering Python is what lets a pending signal's handler run, and
    # what it raises must be caught here, for ctypes cannot pass it on. On entering a function it would be raised before
    # any "try" of that function; a generator is entered in the middle of one.
    try:
        while True:
            yield 0
    except GeneratorExit:
        return
    except BaseException as interruption:
        raised.append(interruption)
    yield 1


@functools.cache
def load() -> Any:
    """The library, or why there is none."""
    folder = Path(__file__).parent
    path = next((p for n in _FILE_NAMES if (p := installed(n, folder)) is not None), None)
    if path is None:
        return "they were not built when reformer-torch was installed (no C++ compiler then); install one and reinstall"
    return open_library(path)


def open_library(path: Path) -> Any:
    """The library in the file ``path``, or why it cannot be used."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return f"{path.name} does not load: {error}"
    for index, struct in enumerate(STRUCTS):
        if library.reformer_struct_size(index) != ctypes.sizeof(struct):
            return f"{path.name} is of another version of reformer-torch; reinstall it"
    # Only now: a library of another version may not have these.
    library.reformer_isa_name.restype = ctypes.c_char_p
    library.reformer_decode_scratch.restype = c_int64
    return library


def installed(name: str, folder: Path) -> Path | None:
    if (folder / name).exists():
        return folder / name
    # An editable install keeps what was built apart from the sources.
    from importlib.metadata import PackageNotFoundError, files

    try:
        listed = files("reformer-torch") or []
    except PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in listed if f.name == name and Path(str(f.locate())).exists()), None)
