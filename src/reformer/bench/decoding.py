"""``reformer bench decode``: a token of cached decoding, by the length of what came before, beside transformers'.

Each model lives in a process of its own, which reads a context once; then the processes take turns, a few tokens each.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from reformer.bench.contenders import INSTALL, require_known
from reformer.bench.rows import Row, RowFile
from reformer.bench.shapes import SHAPES
from reformer.bench.timing import NotRun, interleave, summary
from reformer.bench.training_step import config_from_json, transformers_model
from reformer.bench.worker import Worker
from reformer.models import ReformerConfig, ReformerLM
from reformer.ops import automatic_n_buckets

DECODERS = {
    "reformer-paper": "ReformerLM.decode, pattern 'paper'",
    "reformer-bucket": "ReformerLM.decode, pattern 'bucket', window 2·chunk: what 'paper' sees at most",
    "reformer-trax": "ReformerLM.decode, pattern 'trax'",
    "transformers": "ReformerModelWithLMHead with its cache: what its generate() calls for each token",
}
_ORDER_SEED = 0


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """What to measure. Options given beside --preset change it."""

    preset: str = "6-layers"
    """The model; the number of buckets is the automatic one for the context, 2·L/chunk."""
    contenders: tuple[str, ...] = ("reformer-paper", "reformer-bucket", "transformers")
    context: tuple[int, ...] = (4096, 16_384, 65_536)
    """Positions of the model; all but the tokens to come are read in one parallel pass before the clock starts."""
    batch: int = 1
    tokens: int = 32
    """Tokens decoded in one turn."""
    repeats: int = 7
    max_seconds: float = 300.0
    """What reading a context, and one turn, may take."""
    device: str = "auto"
    threads: int | None = None
    """CPU threads; default: torch's."""
    out: Path | None = None
    """Rows are appended to this file; those that it already holds for this commit and machine are not measured again."""

    def __post_init__(self) -> None:
        for name in self.contenders:
            require_known(name, list(DECODERS))
        for name in ("batch", "tokens", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}")
        # A turn before the clock starts, too.
        new = self.tokens * (self.repeats + 1)
        if min(self.context) <= new:
            raise ValueError(f"--context must be above the {new} tokens to come, got {min(self.context)}")


class Decoder:
    """A model that has read a context of random tokens. JSON in, JSON out (``worker``)."""

    def __init__(
        self, contender: str, config: dict[str, Any], *, batch: int, read: int, device: str, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        shape = config_from_json(config)
        self._device = device
        self._tokens = torch.randint(0, shape.vocab_size, (batch, read), device=device)
        build = _transformers if contender == "transformers" else _reformer
        began = perf_counter()
        with torch.no_grad():
            self._next = build(shape, self._tokens, device)
        self._synchronize()
        self._read_s = perf_counter() - began

    def time(self, tokens: int) -> float:
        """Seconds a token, of ``tokens`` greedy ones, one after another."""
        began = perf_counter()
        with torch.no_grad():
            for _ in range(tokens):
                self._tokens = self._next(self._tokens[:, -1:]).argmax(-1)
            self._synchronize()
        return (perf_counter() - began) / tokens

    def report(self) -> dict[str, Any]:
        """Seconds of building the model and reading the context."""
        return {"read_s": self._read_s}

    def _synchronize(self) -> None:
        if self._device != "cpu":
            torch.cuda.synchronize()


def _reformer(config: ReformerConfig, context: Tensor, device: str) -> Callable[[Tensor], Tensor]:
    model = ReformerLM(config).to(device).eval()
    state = model.decoding_state(context.shape[0])
    model.decode(context, state, last_only=True)
    return lambda token: model.decode(token, state)


def _transformers(config: ReformerConfig, context: Tensor, device: str) -> Callable[[Tensor], Tensor]:
    model = transformers_model(config, math.prod(config.axial_shape), device).eval()
    cache = model(input_ids=context, use_cache=True).past_buckets_states

    def step(token: Tensor) -> Tensor:
        nonlocal cache
        out = model(input_ids=token, past_buckets_states=cache, use_cache=True)
        cache = out.past_buckets_states
        return out.logits

    return step


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """One row to be."""

    contender: str
    model: str
    config: ReformerConfig
    context: int
    batch: int
    read: int
    device: str
    threads: int

    def what(self) -> Row:
        """The fields that say what was measured."""
        sizes = {name: getattr(self.config, name) for name in ("d_model", "n_heads", "n_hashes", "n_buckets")}
        run = {name: getattr(self, name) for name in ("contender", "model", "batch", "device", "threads")}
        shape = {"seq_len": self.context, "layers": len(self.config.attention), "dtype": "float32"}
        return {"benchmark": "decode", "direction": "decoding", **run, **shape, **sizes}

    def worker(self) -> Worker:
        """Its process."""
        arguments = {name: getattr(self, name) for name in ("contender", "batch", "read", "device", "threads")}
        return Worker("reformer.bench.decoding:Decoder", config=dataclasses.asdict(self.config), **arguments)


def measure_decoding(
    options: DecodeOptions, file: RowFile, device: str, threads: int, say: Callable[[str], None]
) -> list[Row]:
    """All rows that ``options`` ask for; contenders and contexts take turns."""
    base, _ = SHAPES[options.preset]()
    to_come = options.tokens * (options.repeats + 1)
    jobs = [
        Decoding(
            contender=name,
            model=options.preset,
            config=with_context(base, context, name),
            context=context,
            batch=options.batch,
            read=context - to_come,
            device=device,
            threads=threads,
        )
        for context in options.context
        for name in options.contenders
    ]
    rows = {job: row for job in jobs if (row := file.finished(job.what())) is not None}
    workers = {job: job.worker() for job in jobs if job not in rows}

    def add(job: Decoding, measured: Row) -> None:
        rows[job] = file.add(job.what(), {"timed": DECODERS[job.contender], "turn": options.tokens, **measured})
        say(describe_decoding(rows[job]))

    def finish(job: Decoding, samples: list[float]) -> None:
        found = summary(samples)
        report = workers[job].call("report", timeout=options.max_seconds)
        add(job, {**found, "warmups": 1, "tokens_per_second": job.batch / found["median_s"], **report})

    try:
        _take_turns(workers, options, finish, lambda job, reason: add(job, {"not_run": str(reason)}))
    finally:
        for worker in workers.values():
            worker.close()
    return [rows[job] for job in jobs]


def _take_turns(
    workers: dict[Decoding, Worker],
    options: DecodeOptions,
    finish: Callable[[Decoding, list[float]], None],
    fail: Callable[[Decoding, NotRun], None],
) -> None:
    ready = {}
    for job, worker in workers.items():
        try:
            if job.contender == "transformers" and find_spec("transformers") is None:
                raise NotRun(f"transformers is {INSTALL}")
            # Reads the context; a first turn before the ones that count.
            worker.call("time", timeout=options.max_seconds, tokens=options.tokens)
        except NotRun as reason:
            fail(job, reason)
            continue
        ready[job] = partial(worker.call, "time", timeout=options.max_seconds, tokens=options.tokens)
    repeats = dict.fromkeys(ready, options.repeats)
    interleave(ready, repeats, seed=_ORDER_SEED, finished=finish, failed=fail)


def with_context(config: ReformerConfig, context: int, contender: str) -> ReformerConfig:
    """The config with ``context`` positions, buckets for them, and the contender's pattern."""
    first = next(n for n in range(math.isqrt(context), 0, -1) if context % n == 0)
    changes: dict[str, Any] = {
        "axial_shape": (first, context // first),
        "n_buckets": automatic_n_buckets(context, config.lsh_chunk_len),
    }
    if contender != "transformers":
        changes["pattern"] = contender.removeprefix("reformer-")
    if contender == "reformer-bucket":
        changes["lsh_window"] = 2 * config.lsh_chunk_len
    return dataclasses.replace(config, **changes)


def describe_decoding(row: Row) -> str:
    """A row as a line of progress."""
    what = f"{row['model']}, context {row['seq_len']:,}, batch {row['batch']}: {row['contender']}"
    if "not_run" in row:
        return f"{what}: not run: {row['not_run']}"
    return f"{what}: {row['median_s'] * 1e3:.3g} ms a token, {row['tokens_per_second']:,.0f} tokens/s"
