"""``reformer bench attention``: our attention beside others, over lengths, rounds, chunks, head sizes and dtypes.

The unit that is interleaved is a group: everything measured at one length, batch, head size and dtype. Each contender has
its own process; in each round of a group every contender makes one call, in an order drawn anew.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from reformer.training.environment import peak_memory_bytes, reset_peak_memory
from reproduction.benchmarks.benchmark import Bench, Options, plain, require_dtype, require_name
from reproduction.benchmarks.contenders import ATTENTION, require_present
from reproduction.benchmarks.operations import Inputs, Operation, Shape
from reproduction.case import Case, Place
from reproduction.rows import Row, identity
from reproduction.timing import Plan, plan, predicted, seconds_of, timed
from reproduction.worker import Worker

FORWARD, BOTH = "forward", "forward+backward"
DIRECTIONS = (FORWARD, BOTH)


class AttentionSubject:
    """Builds the operations of a contender as shapes come, and times them (``worker``)."""

    def __init__(self, contender: str, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self._contender, self._device = ATTENTION[contender], device
        self._inputs: tuple[Shape, Inputs] | None = None
        self._operations: dict[Shape, Operation] = {}

    def time(self, shape: Shape, direction: str) -> float:
        """Seconds of one call."""
        return seconds_of(self.call(shape, direction), self._device)

    def memory(self, shape: Shape, direction: str) -> dict[str, int]:
        """Bytes by which memory rises during one call: in all, and beyond the output and the gradients.

        On a CPU it is the resident memory of the process: ask this of a fresh one.
        """
        # What is allocated once and for all (thread pools, libraries' workspaces) is not the operation's.
        if self._device == "cpu":
            self.call(shape.at(min(shape.seq_len, 1024)), direction)()
        call = self.call(shape, direction)
        reset_peak_memory(self._device)
        before = peak_memory_bytes(self._device)
        call()
        peak = peak_memory_bytes(self._device) - before
        operation = self.operation(shape)
        results = [self._cotangent(operation), *(operation.leaves if direction == BOTH else ())]
        kept = sum(tensor.numel() * tensor.element_size() for tensor in results)
        return {"peak_bytes": peak, "extra_bytes": max(peak - kept, 0)}

    def call(self, shape: Shape, direction: str) -> Callable[[], object]:
        """What is timed: the output, or with a backward pass the gradients of all leaves."""
        operation = self.operation(shape)
        if direction == FORWARD:
            return torch.no_grad()(lambda: operation.call(*operation.leaves))
        leaves = [leaf.detach().requires_grad_() if not leaf.requires_grad else leaf for leaf in operation.leaves]
        cotangent = self._cotangent(operation)
        return lambda: torch.autograd.grad(operation.call(*leaves), leaves, cotangent)

    def _cotangent(self, operation: Operation) -> Tensor:
        # The first leaf is the input, and every output is shaped as it is.
        assert self._inputs is not None
        return self._inputs[1].like(tuple(operation.leaves[0].shape), 3)

    def operation(self, shape: Shape) -> Operation:
        """The contender at ``shape``. Shapes that differ in hashing alone share their inputs; those of the last one go."""
        seen = shape.as_seen_by(())
        if self._inputs is None or self._inputs[0] != seen:
            # Before there are new ones.
            self._operations.clear()
            self._inputs = None
            self._inputs = (seen, Inputs(seen, self._device))
        if shape not in self._operations:
            ours = {} if self._contender.impl is None else {"impl": self._contender.impl}
            self._operations[shape] = self._contender.build(shape, self._inputs[1], **ours)
        return self._operations[shape]


# A call that hangs is ended after this many times the limit of a row, and the time a process takes to start.
_PATIENCE, _START_S = 3, 120


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(Options):
    """What to measure. Options given beside --preset change it."""

    contenders: tuple[str, ...] = ("reformer", "reformer-eager", "sdpa")
    seq_len: tuple[int, ...] = (1024, 4096, 16_384)
    """Lengths; each must be a multiple of 2 · chunk_len for reformer-pytorch."""
    batch: int = 1
    tokens: int | None = None
    """Tokens a step: the batch is this over the length, in place of --batch."""
    n_heads: int = 8
    head_dim: tuple[int, ...] = (64,)
    n_hashes: tuple[int, ...] = (4,)
    chunk_len: tuple[int, ...] = (64,)
    n_buckets: tuple[int, ...] | None = None
    """Factors of the number of buckets; default: the paper's 2 · length / chunk_len, factorised from 256 on."""
    dtype: tuple[str, ...] = ("float32",)
    directions: tuple[str, ...] = DIRECTIONS
    """forward (no gradient wanted) and forward+backward."""
    repeats: int = 5
    max_seconds: float = 120.0
    """What one row may take: fewer repeats if they do not fit, and none ("not run") if a single call is predicted not to."""
    memory: bool = True
    """Also measure the peak of memory of each row (on a CPU: one more call in a fresh process)."""
    roofline: bool = False
    """Also measure a large product and a large copy, and give each row its share of what they allow."""

    def __post_init__(self) -> None:
        for name in self.contenders:
            require_name("contender", name, ATTENTION)
        for name in self.dtype:
            require_dtype(name)
        for direction in self.directions:
            if direction not in DIRECTIONS:
                raise ValueError(f"--directions must be of {', '.join(DIRECTIONS)}, got {direction!r}")
        self.require_positive("seq_len", "batch", "n_heads", "head_dim", "n_hashes", "chunk_len", "repeats")
        if self.tokens is not None and self.tokens < max(self.seq_len):
            raise ValueError(f"--tokens must be at least the longest length, {max(self.seq_len)}, got {self.tokens}")


def attention_groups(options: AttentionOptions, bench: Bench, worker: Any = Worker) -> Generator[list[Case]]:
    """The cases of each group, shortest lengths first; each measurement once."""
    machine = {"device": bench.device, "threads": bench.threads}
    with ExitStack() as processes:
        workers = {
            name: processes.enter_context(worker(AttentionSubject, contender=name, **machine))
            for name in options.contenders
        }
        for dtype, head_dim, length in product(options.dtype, options.head_dim, sorted(options.seq_len)):
            cases: dict[object, Case] = {}
            for shape in _shapes(options, dtype, head_dim, length):
                for name, direction in product(options.contenders, options.directions):
                    seen = shape.as_seen_by(ATTENTION[name].depends_on)
                    what = {"benchmark": "attention", "contender": name, "direction": direction, **machine}
                    case = _case(what | plain(dataclasses.asdict(seen)), seen, options, workers[name])
                    cases.setdefault(identity(case.config), case)
            yield list(cases.values())


def _shapes(options: AttentionOptions, dtype: str, head_dim: int, length: int) -> Iterator[Shape]:
    for n_hashes, chunk_len in product(options.n_hashes, options.chunk_len):
        yield Shape(
            batch=options.batch if options.tokens is None else options.tokens // length,
            seq_len=length,
            n_heads=options.n_heads,
            head_dim=head_dim,
            dtype=dtype,
            n_hashes=n_hashes,
            chunk_len=chunk_len,
            n_buckets=options.n_buckets,
        )


def _case(what: Row, shape: Shape, options: AttentionOptions, worker: Worker) -> Case:
    contender, device, direction = ATTENTION[what["contender"]], what["device"], what["direction"]
    limits: dict[str, Any] = {"max_seconds": options.max_seconds, "repeats": options.repeats}
    asked = {"timeout": _PATIENCE * options.max_seconds + _START_S, "direction": direction}

    def time(shape: Shape = shape) -> float:
        seconds: float = worker.call("time", shape=shape, **asked)
        return seconds

    def run(place: Place) -> Generator[Row | None]:
        runs = require_present(what["contender"], device, shape.dtype, shape.head_dim)
        one = predicted(lambda length: time(shape.at(length)), shape.seq_len, contender.growth)
        calls = Plan(warmups=1, repeats=1) if one is None else plan(one * shape.batch, warmed=False, **limits)
        extra: Row = {"runs": runs, "timed": contender.timed}
        if calls.warmups:
            if device == "cuda":
                # The first call of a shape compiles kernels.
                time()
            calls = dataclasses.replace(plan(time(), warmed=True, **limits), warmups=1)
        if options.memory:
            # On a CPU the memory is the process's.
            with nullcontext(worker) if device == "cuda" else worker.fresh() as process:
                extra |= process.call("memory", shape=shape, **asked)
        times = yield from timed(time, calls.repeats)
        yield {**times, "warmups": calls.warmups, **extra}

    return Case(row=what["contender"], config=what, run=run)
