"""``reformer bench attention``: our attention beside others, over lengths, rounds, chunks, head sizes and dtypes.

The unit that is interleaved is a group: everything measured at one length, batch, head size and dtype. Each contender has
its own process; in each round of a group every contender makes one call, in an order drawn anew.
"""

import dataclasses
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import Any

from reproduction.benchmarks.benchmark import Bench, Options, plain, require_dtype, require_name
from reproduction.benchmarks.contenders import ATTENTION, require_present
from reproduction.benchmarks.operations import Shape
from reproduction.benchmarks.subject import DIRECTIONS, AttentionSubject
from reproduction.case import Case, Place
from reproduction.rows import Row, identity
from reproduction.timing import Plan, plan, predicted, timed
from reproduction.worker import Worker

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
    with ExitStack() as processes:
        workers = {
            name: processes.enter_context(
                worker(AttentionSubject, contender=name, device=bench.device, threads=bench.threads)
            )
            for name in options.contenders
        }
        for dtype, head_dim, length in product(options.dtype, options.head_dim, sorted(options.seq_len)):
            cases = [
                _Measurement(
                    options, bench, workers[name], name, shape.as_seen_by(ATTENTION[name].depends_on), direction
                )
                for shape in _shapes(options, dtype, head_dim, length)
                for name, direction in product(options.contenders, options.directions)
            ]
            yield [each.case() for each in {identity(each.what): each for each in cases}.values()]


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


class _Measurement:
    """One row: a contender at one shape in one direction, asked of the contender's process."""

    def __init__(
        self, options: AttentionOptions, bench: Bench, worker: Worker, contender: str, shape: Shape, direction: str
    ) -> None:
        self._options, self._device, self._worker = options, bench.device, worker
        self._contender, self._shape, self._direction = contender, shape, direction
        run = {"contender": contender, "direction": direction, "device": bench.device, "threads": bench.threads}
        self.what: Row = {"benchmark": "attention", **run, **plain(dataclasses.asdict(shape))}
        self._limits = {"max_seconds": options.max_seconds, "repeats": options.repeats}

    def case(self) -> Case:
        """To be measured in turns with the others of its group."""
        return Case(row=self._contender, config=self.what, run=self._turns)

    def _turns(self, place: Place) -> Generator[Row | None]:
        shape, contender = self._shape, ATTENTION[self._contender]
        runs = require_present(self._contender, self._device, shape.dtype, shape.head_dim)
        one = predicted(lambda length: self._time(shape.at(length)), shape.seq_len, contender.growth)
        calls = Plan(warmups=1, repeats=1) if one is None else plan(one * shape.batch, warmed=False, **self._limits)
        extra: Row = {"runs": runs, "timed": contender.timed}
        if calls.warmups:
            if self._device == "cuda":
                # The first call of a shape compiles kernels.
                self._time(shape)
            calls = dataclasses.replace(plan(self._time(shape), warmed=True, **self._limits), warmups=1)
        if self._options.memory:
            extra |= self._memory()
        times = yield from timed(lambda: self._time(shape), calls.repeats)
        yield {**times, "warmups": calls.warmups, **extra}

    def _time(self, shape: Shape) -> float:
        seconds: float = self._worker.call("time", timeout=self._patience, shape=shape, direction=self._direction)
        return seconds

    def _memory(self) -> Row:
        call = {"timeout": self._patience, "shape": self._shape, "direction": self._direction}
        if self._device == "cuda":
            found: Row = self._worker.call("memory", **call)
        else:
            with self._worker.fresh() as fresh:
                found = fresh.call("memory", **call)
        return found

    @property
    def _patience(self) -> float:
        return _PATIENCE * self._options.max_seconds + _START_S
