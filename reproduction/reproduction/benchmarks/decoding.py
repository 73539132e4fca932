"""``reformer bench decode``: a token of cached decoding, by the length of what came before, beside transformers'.

Each model lives in a process of its own, which reads a context once; then the processes take turns, a few tokens each.
"""

import dataclasses
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from reformer.models import ReformerConfig, ReformerLM
from reformer.ops import automatic_n_buckets
from reproduction.benchmarks.benchmark import Bench, Options, plain, require_installed, require_name
from reproduction.benchmarks.peers import transformers_model
from reproduction.benchmarks.shapes import SHAPES
from reproduction.case import Case, Place
from reproduction.rows import Row
from reproduction.timing import timed
from reproduction.worker import Worker

DECODERS = {
    "reformer-paper": "ReformerLM.decode, pattern 'paper'",
    "reformer-bucket": "ReformerLM.decode, pattern 'bucket', window 2·chunk: what 'paper' sees at most",
    "reformer-trax": "ReformerLM.decode, pattern 'trax'",
    "transformers": "ReformerModelWithLMHead with its cache: what its generate() calls for each token",
}


@dataclass(frozen=True, kw_only=True)
class DecodeOptions(Options):
    """What to measure. Options given beside --preset change it."""

    preset: str | None = "6-layers"
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

    def __post_init__(self) -> None:
        for name in self.contenders:
            require_name("contender", name, DECODERS)
        self.require_positive("batch", "tokens", "repeats")
        if min(self.context) <= self.to_come:
            raise ValueError(f"--context must be above the {self.to_come} tokens to come, got {min(self.context)}")

    @property
    def to_come(self) -> int:
        """Tokens that are decoded in all, with a turn before the clock starts."""
        return self.tokens * (self.repeats + 1)


class Decoder:
    """A model that has read a context of random tokens (``worker``)."""

    def __init__(
        self, contender: str, config: ReformerConfig, *, batch: int, read: int, device: str, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self._device = device
        self._tokens = torch.randint(0, config.vocab_size, (batch, read), dtype=torch.int64, device=device)
        build = _transformers if contender == "transformers" else _reformer
        began = perf_counter()
        with torch.no_grad():
            self._next = build(config, self._tokens, device)
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
        logits: Tensor = out.logits
        return logits

    return step


def decode_groups(options: DecodeOptions, bench: Bench) -> Generator[list[Case]]:
    """Contenders and contexts, which take turns all together."""
    base, _ = SHAPES[options.preset or ""]()
    yield [
        _case(options, bench, contender, context, with_context(base, context, contender))
        for context in options.context
        for contender in options.contenders
    ]


def _case(options: DecodeOptions, bench: Bench, contender: str, context: int, config: ReformerConfig) -> Case:
    sizes = {name: getattr(config, name) for name in ("d_model", "n_heads", "n_hashes", "n_buckets")}
    machine = {"device": bench.device, "threads": bench.threads}
    what = {
        "benchmark": "decode",
        "contender": contender,
        "direction": "decoding",
        "model": options.preset,
        "batch": options.batch,
        "seq_len": context,
        "layers": len(config.attention),
        "dtype": "float32",
        **machine,
        **plain(sizes),
    }

    def run(place: Place) -> Generator[Row | None]:
        if contender == "transformers":
            require_installed("transformers")
        read = context - options.to_come
        with Worker(Decoder, contender=contender, config=config, batch=options.batch, read=read, **machine) as worker:

            def turn() -> float:
                seconds: float = worker.call("time", timeout=options.max_seconds, tokens=options.tokens)
                return seconds

            # Before a first turn, which does not count, the context is read.
            turn()
            times = yield from timed(turn, options.repeats)
            report = worker.call("report", timeout=options.max_seconds)
        speed = {"warmups": 1, "tokens_per_second": options.batch / times["median_s"]}
        yield {"timed": DECODERS[contender], "turn": options.tokens, **times, **speed, **report}

    return Case(row=contender, config=what, run=run)


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
