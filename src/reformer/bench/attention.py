"""``reformer bench attention``: our attention beside others, over lengths, rounds, chunks, head sizes and dtypes.

The unit that is interleaved is a group: everything measured at one length, batch, head size and dtype. Each contender has
its own process; in each round of a group every contender makes one call, in an order drawn anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reformer.bench.case import Case
from reformer.bench.contenders import ATTENTION, absence, require_dtype, require_known
from reformer.bench.rows import Row, RowFile
from reformer.bench.subject import DIRECTIONS
from reformer.bench.timing import NotRun, Plan, interleave, plan, predict, probe_length, summary
from reformer.bench.worker import Worker

# Rounds of shuffled turns are drawn from here.
_ORDER_SEED = 0
# A call that hangs is ended after this many times the limit of a row, and the time a process takes to start.
_PATIENCE, _START_S = 3, 120

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """What to measure. Options given beside --preset change it."""

    preset: str | None = None
    """A named set of options: see reformer bench attention --help."""
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
    device: str = "auto"
    threads: int | None = None
    """CPU threads; default: torch's."""
    out: Path | None = None
    """Rows are appended to this file; those that it already holds for this commit and machine are not measured again."""

    def __post_init__(self) -> None:
        for name in self.contenders:
            require_known(name, ATTENTION)
        for name in self.dtype:
            require_dtype(name)
        for direction in self.directions:
            if direction not in DIRECTIONS:
                raise ValueError(f"--directions must be of {', '.join(DIRECTIONS)}, got {direction!r}")
        for name in ("seq_len", "batch", "n_heads", "head_dim", "n_hashes", "chunk_len", "repeats"):
            value = getattr(self, name)
            least = min(value, default=0) if isinstance(value, tuple) else value
            if least < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {least}")
        if self.tokens is not None and self.tokens < max(self.seq_len):
            raise ValueError(f"--tokens must be at least the longest length, {max(self.seq_len)}, got {self.tokens}")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row to be: a contender, a case and a direction."""

    contender: str
    case: Case
    direction: str


class Benchmark:
    """Measures groups of entries, each contender in its own process."""

    def __init__(
        self, file: RowFile, device: str, threads: int, options: AttentionOptions, say: Say, worker: Any = Worker
    ) -> None:
        self._file, self._device, self._threads = file, device, threads
        self._options, self._say, self._new_worker = options, say, worker
        self._workers: dict[str, Worker] = {}

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers.values():
            worker.close()

    def measure(self, entries: list[Entry]) -> list[Row]:
        """The rows of one group, in the order of ``entries``: those that the file holds, and the new ones."""
        rows: dict[Entry, Row] = {}
        plans: dict[Entry, Plan] = {}
        extras: dict[Entry, Row] = {}
        for entry in entries:
            finished = self._file.finished(self._what(entry))
            if finished is not None:
                rows[entry] = finished
                continue
            try:
                plans[entry], extras[entry] = self._prepare(entry)
            except NotRun as reason:
                rows[entry] = self._add(entry, {"not_run": str(reason)})

        def finish(entry: Entry, samples: list[float]) -> None:
            rows[entry] = self._add(entry, {**summary(samples), "warmups": plans[entry].warmups, **extras[entry]})

        def fail(entry: Entry, reason: NotRun) -> None:
            rows[entry] = self._add(entry, {"not_run": str(reason)})

        interleave(
            {entry: partial(self._time, entry) for entry in plans},
            {entry: plan.repeats for entry, plan in plans.items()},
            seed=_ORDER_SEED,
            finished=finish,
            failed=fail,
        )
        return [rows[entry] for entry in entries]

    def _prepare(self, entry: Entry) -> tuple[Plan, Row]:
        """How often to call, after the warm-up; and what else the row will hold."""
        case = entry.case
        reason = absence(entry.contender, self._device, case.dtype, case.head_dim)
        if reason is not None:
            raise NotRun(reason)
        planned = partial(plan, max_seconds=self._options.max_seconds, repeats=self._options.repeats)
        predicted = self._predicted(entry)
        first = Plan(warmups=1, repeats=1) if predicted is None else planned(predicted, warmed=False)
        extra: Row = {"runs": self._ask(entry, "runs", case=dataclasses.asdict(case))}
        extra["timed"] = ATTENTION[entry.contender].timed
        if first.warmups:
            if self._device == "cuda":
                # The first call of a shape compiles kernels.
                self._time(entry)
            warm_s = self._time(entry)
            first = dataclasses.replace(planned(warm_s, warmed=True), warmups=1)
        if self._options.memory:
            extra |= self._memory(entry)
        return first, extra

    def _predicted(self, entry: Entry) -> float | None:
        """Seconds of one call, from shorter ones; None for a length so short that it need not be known."""
        case, growth = entry.case, ATTENTION[entry.contender].growth
        history = self._file.history(self._what(entry))
        shorter = probe_length(case.seq_len)
        if predict(history, case.seq_len, growth) is None and shorter is not None:
            probe = dataclasses.replace(entry, case=case.at(shorter))
            # The first call sets up its libraries; it would promise too little speed.
            history = [(shorter, min(self._time(probe) for _ in range(2)))]
        one = predict(history, case.seq_len, growth)
        return None if one is None else one * case.batch

    def _time(self, entry: Entry) -> float:
        return self._ask(entry, "time", case=dataclasses.asdict(entry.case), direction=entry.direction)

    def _memory(self, entry: Entry) -> Row:
        arguments = {"case": dataclasses.asdict(entry.case), "direction": entry.direction}
        if self._device == "cuda":
            return self._ask(entry, "memory", **arguments)
        with self._worker(entry.contender) as fresh:
            return fresh.call("memory", timeout=self._patience, **arguments)

    def _ask(self, entry: Entry, method: str, **arguments: Any) -> Any:
        if entry.contender not in self._workers:
            self._workers[entry.contender] = self._worker(entry.contender)
        return self._workers[entry.contender].call(method, timeout=self._patience, **arguments)

    def _worker(self, contender: str) -> Worker:
        factory = "reformer.bench.subject:AttentionSubject"
        return self._new_worker(factory, contender=contender, device=self._device, threads=self._threads)

    @property
    def _patience(self) -> float:
        return _PATIENCE * self._options.max_seconds + _START_S

    def _what(self, entry: Entry) -> Row:
        case = dataclasses.asdict(entry.case)
        return {
            "benchmark": "attention",
            "contender": entry.contender,
            "direction": entry.direction,
            "device": self._device,
            "threads": self._threads,
            **case,
            "n_buckets": None if case["n_buckets"] is None else list(case["n_buckets"]),
        }

    def _add(self, entry: Entry, measured: Row) -> Row:
        row = self._file.add(self._what(entry), measured)
        self._say(describe(row))
        return row


def groups(options: AttentionOptions) -> Iterator[list[Entry]]:
    """The entries of each group, shortest lengths first; each measurement once."""
    for dtype in options.dtype:
        for head_dim in options.head_dim:
            for length in sorted(options.seq_len):
                yield list(dict.fromkeys(_group(options, dtype, head_dim, length)))


def _group(options: AttentionOptions, dtype: str, head_dim: int, length: int) -> Iterable[Entry]:
    for n_hashes in options.n_hashes:
        for chunk_len in options.chunk_len:
            case = Case(
                batch=options.batch if options.tokens is None else options.tokens // length,
                seq_len=length,
                n_heads=options.n_heads,
                head_dim=head_dim,
                dtype=dtype,
                n_hashes=n_hashes,
                chunk_len=chunk_len,
                n_buckets=options.n_buckets,
            )
            for name in options.contenders:
                for direction in options.directions:
                    seen = case.as_seen_by(ATTENTION[name].depends_on)
                    yield Entry(contender=name, case=seen, direction=direction)


def describe(row: Row) -> str:
    """A row as a line of progress."""
    rounds = "" if row.get("n_hashes") is None else f" R={row['n_hashes']}"
    what = f"L={row['seq_len']:,} B={row['batch']}{rounds} {row['dtype']} {row['direction']}: {row['contender']}"
    if "not_run" in row:
        return f"{what}: not run: {row['not_run']}"
    runs = f" ({row['runs']})" if row.get("runs") not in (None, "", row["contender"].removeprefix("reformer-")) else ""
    once = ", once, not warmed up" if row["repeats"] == 1 and not row.get("warmups") else ""
    return f"{what}{runs}: {row['median_s']:.4g} s{once}"


def measure_attention(options: AttentionOptions, file: RowFile, device: str, threads: int, say: Say) -> list[Row]:
    """All rows that ``options`` ask for."""
    benchmark = Benchmark(file, device, threads, options, say)
    try:
        return [row for entries in groups(options) for row in benchmark.measure(entries)]
    finally:
        benchmark.close()
