"""What the tasks of a language model of bytes or symbols have in common: batches, loss, tables, and text that it goes on with."""

from __future__ import annotations

import itertools
import os
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from reformer.data import shift_right
from reformer.evaluation.mean_bits import scored_accuracy
from reformer.evaluation.variants import attention_variant
from reformer.generation import SamplingConfig, Stopping, beam_search, stream
from reformer.models import ReformerConfig, ReformerLM
from reformer.tasks.config import EvalOptions, RunConfig
from reformer.tasks.protocol import Evaluated, Measurement, ProgressReport, Task, silent

# Evaluation draws its sequences and masks from streams of their own.
EVALUATION_SEED = 2**31
NOT_COUNTED = -100


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(EvalOptions):
    """What to measure, and under which attention."""

    as_default: ClassVar[tuple[str, ...]] = ("as-trained",)

    n_hashes: str | None = None
    """Hash rounds at evaluation, separated by commas: 1,2,4,8 gives one table."""
    attention: str | None = None
    """Attention at evaluation, separated by commas: as-trained, full, lsh-N."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.variants()

    def variants(self) -> list[str]:
        """The names that ``attention_variant`` knows, in order. Raises ValueError for what are not positive numbers."""
        names = [] if self.attention is None else self.attention.split(",")
        names += [f"lsh-{number}" for number in positive_numbers("--n-hashes", self.n_hashes)]
        return names or list(self.as_default)


def positive_numbers(option: str, text: str | None) -> list[int]:
    """The numbers of "1,2,4"; none for None. Raises ValueError naming ``option``."""
    words = [] if text is None else text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"{option} takes positive numbers separated by commas, got {text!r}")
    return [int(word) for word in words]


@dataclass(frozen=True, kw_only=True)
class ContinueOptions(SamplingConfig):
    """How to continue a prompt."""

    n_bytes: int = 256
    """New bytes; with --hf new tokens, which may be longer."""
    temperature: float = 0.8
    """0: always the likeliest byte."""
    stop: tuple[str, ...] = ()
    """End with the first of these strings in the continuation."""
    num_beams: int | None = None
    """Search for the likeliest continuation with this many beams instead of drawing; it comes when it is complete."""
    seed: int = 0
    """Fixes the draws and the hash rotations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_bytes < 1:
            raise ValueError(f"--n-bytes must be at least 1, got {self.n_bytes}")

    @property
    def stop_strings(self) -> tuple[bytes, ...]:
        """``stop`` as the bytes that the command line had."""
        return tuple(os.fsencode(string) for string in self.stop)


def continuation(
    model: ReformerLM, prompt: bytes | list[int], options: ContinueOptions, max_len: int, stopping: Stopping
) -> Iterator[int]:
    """The tokens that follow ``prompt``, with room (and as many buckets as) for ``max_len`` tokens in all.

    Raises ValueError before the first for a prompt that is too long or not of the model's tokens.
    """
    longest = model.config.longest_input
    max_len = max_len if longest is None else min(max_len, longest)
    common: dict[str, Any] = {"stop": stopping, "rotation_seed": options.seed, "max_len": max_len}
    if options.num_beams is not None:
        return iter(beam_search(model, prompt, options.n_bytes, num_beams=options.num_beams, **common)[0].tokens)
    steps = stream(model, [prompt], options.n_bytes, options, seeds=[options.seed], **common)
    return (token for (token,) in steps if token is not None)


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(RunConfig):
    """A run of a causal or masked language model on sequences of one length."""

    generate_options: ClassVar[type[Any]] = ContinueOptions

    batch_size: int = 1
    """Sequences of one forward and backward pass."""
    model: ReformerConfig = field(default_factory=ReformerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_counts("batch_size")

    def require_bytes(self) -> None:
        """Raise ValueError unless the model's symbols are bytes."""
        if self.model.vocab_size != 256:
            raise ValueError(
                f"task {self.task!r} is over bytes: model.vocab_size must be 256, got {self.model.vocab_size}"
            )

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.accumulate * self.seq_len

    def make_model(self) -> ReformerLM:
        return ReformerLM(self.model)

    def generate(
        self,
        model: ReformerLM,
        prompt: bytes,
        options: ContinueOptions,
        cache_dir: Path,
        prepared: Path | None = None,
    ) -> Iterator[bytes]:
        """The prompt and its continuation, byte by byte as it comes."""
        # With as many buckets as in training, if that is where the text will fit.
        max_len = max(self.seq_len, len(prompt) + options.n_bytes)
        tokens = continuation(model, prompt, options, max_len, Stopping(options.stop_strings))
        return itertools.chain([prompt] if prompt else [], (bytes([token]) for token in tokens))


class LanguageModelTask(Task):
    """Batches are (inputs, targets) int64 [B, L]; ``NOT_COUNTED`` in targets is not counted."""

    splits_differ = True
    """False where sequences are made up: then all splits are alike, and an evaluation takes the last one named."""

    def loss(self, model: ReformerLM, batch: tuple[Tensor, ...], seed: Tensor) -> Tensor:
        inputs, targets = batch
        loss: Tensor = model(inputs, targets=targets, seed=seed)
        return loss

    def inputs(self, tokens: np.ndarray) -> np.ndarray:
        """What the model reads to predict ``tokens`` [B, L]."""
        return shift_right(tokens, self.config.model.start_id)

    def evaluate_with(self, model: ReformerLM, split: str, options: AttentionOptions) -> Measurement:
        """``evaluate`` as the options of an evaluation say."""
        return self.evaluate(model, split, options.limit)

    def yardsticks(self, split: str, limit: int) -> dict[str, Measurement]:
        """What needs no training makes of the same data, by name."""
        return {}

    def evaluations(
        self, model: ReformerLM, options: AttentionOptions, progress: ProgressReport = silent
    ) -> Iterator[Evaluated]:
        """Every split under every attention, then the yardsticks of every split."""
        splits = options.splits if self.splits_differ else options.splits[-1:]
        for split in splits:
            for name in options.variants():
                found = self.evaluate_with(attention_variant(model, name), split, options)
                yield Evaluated(split=split, variant=name, measurement=found)
        for split in splits:
            for name, found in self.yardsticks(split, options.limit).items():
                yield Evaluated(split=split, variant=name, measurement=found, is_yardstick=True)


class FreshSequences(LanguageModelTask):
    """A task whose sequences are drawn as they are needed; evaluation draws others: of validation and test different ones."""

    splits_differ = False
    unit: str
    """What is scored, in the plural."""

    @abstractmethod
    def draw(self, split: str, size: int, length: int, *, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(sequences int64 [size, length], how far before each symbol stands what tells it; 0: the symbol is not scored)."""

    @abstractmethod
    def describe(self, split: str) -> str:
        """What the sequences of an evaluation are, in words."""

    def evaluate(
        self, model: ReformerLM, split: str, limit: int, nearest: int = 1, farthest: int = 2**31
    ) -> Measurement:
        """Bits, and accuracy, on ``limit`` fresh sequences, of what is told ``nearest`` to ``farthest`` symbols before."""
        size, seed, length = self.config.batch_size, self.seed_of(split), self.config.seq_len
        firsts = range(0, limit, size)
        drawn = (self.draw(split, min(size, limit - first), length, seed=seed, step=first) for first in firsts)
        found = scored_accuracy(
            model, ((sequence, (nearest <= distance) & (distance <= farthest)) for sequence, distance in drawn)
        )
        return Measurement(
            metric=self.config.metric,
            value=found.bits,
            n=found.n,
            unit=self.unit,
            protocol=f"{limit:,} fresh sequences {self.describe(split)}",
            extras={"accuracy": found.accuracy},
        )

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        sequences, _ = self.draw(split, n_windows, self.config.seq_len, seed=self.seed_of(split), step=0)
        return iter(self.inputs(sequences))

    def seed_of(self, split: str) -> int:
        """Validation and test are different sequences."""
        return EVALUATION_SEED + (split == "test")


def counted_where(mask: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """``tokens`` as targets of which only those under ``mask`` count."""
    return np.where(mask, tokens, NOT_COUNTED)
