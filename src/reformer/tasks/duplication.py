"""The paper's synthetic task 0w0w, whole: config, sequences, accuracy on the second w, and its recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from reformer.data import duplication_batch
from reformer.models import ReformerConfig
from reformer.tasks.config import EvalOptions, OptimizerConfig
from reformer.tasks.language_model import AttentionOptions, FreshSequences, LanguageModelConfig, counted_where


@dataclass(frozen=True, kw_only=True)
class DuplicationEvalOptions(AttentionOptions):
    """What to measure: accuracy and bits per symbol of the second w."""

    # The columns of the paper's table 2.
    as_default: ClassVar[tuple[str, ...]] = ("full", "lsh-8", "lsh-4", "lsh-2", "lsh-1")

    limit: int = 256
    """Fresh sequences; the splits draw different ones, and the last one named is taken."""


@dataclass(frozen=True, kw_only=True)
class DuplicationConfig(LanguageModelConfig):
    """The paper's synthetic task: sequences 0w0w of random symbols, of which the second w is predicted."""

    task: ClassVar[str] = "duplication"
    metric: ClassVar[str] = "bits per symbol"
    eval_count: ClassVar[str] = "eval_sequences"
    eval_options: ClassVar[type[EvalOptions]] = DuplicationEvalOptions

    seq_len: int = 256
    """Symbols of a sequence, 2·|w| + 2."""
    eval_sequences: int = 128
    """Sequences of one evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seq_len % 2 or self.seq_len < 4:
            raise ValueError(f"task 'duplication' has seq_len 2·|w| + 2, even and at least 4, got {self.seq_len}")
        self.require_causal(", over at least two symbols")
        if self.model.vocab_size < 2:
            raise ValueError("task 'duplication' is causal, over at least two symbols")

    def make_task(self, cache_dir: Path, prepared: Path | None = None) -> DuplicationTask:
        return DuplicationTask(self)


class DuplicationTask(FreshSequences):
    """Loss and accuracy on the second w of 0w0w."""

    unit = "symbols"
    yardsticks_note = "nothing but a copy of w predicts it: log2 of the number of symbols is what a guess costs"

    def __init__(self, config: DuplicationConfig) -> None:
        self.config = config
        self.half = config.seq_len // 2 - 1
        self.made_from = f"synthetic: 0w0w, |w| = {self.half}, symbols 1..{config.model.vocab_size - 1}"

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        config = self.config
        sequence, distance = self.draw("train", config.batch_size, config.seq_len, seed=config.seed, step=index)
        return self.inputs(sequence), counted_where(distance > 0, sequence)

    def draw(self, split: str, size: int, length: int, *, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(sequences 0w0w, in the second w how far before the first one's symbol stands)."""
        symbols = self.config.model.vocab_size - 1
        sequence, mask = duplication_batch(self.half, size, seed=seed, step=step, n_symbols=symbols)
        return sequence, mask * (self.half + 1)

    def describe(self, split: str) -> str:
        return f"0w0w with |w| = {self.half}, second w scored, fresh rotations per batch"


def duplication() -> DuplicationConfig:
    """The paper's synthetic task at |w| = 127 with LSH-4: second half copied, on a laptop CPU, in minutes."""
    return DuplicationConfig(
        name="duplication",
        seq_len=256,
        batch_size=8,
        steps=600,
        eval_every=100,
        eval_sequences=128,
        checkpoint_every=100,
        optimizer=OptimizerConfig(name="adam", lr=1e-3, schedule="constant", warmup_steps=200),
        model=ReformerConfig(
            vocab_size=128,
            d_model=256,
            d_ff=256,
            n_heads=4,
            attention=("lsh",),
            n_hashes=4,
            positions="learned",
            max_len=256,
        ),
    )


RECIPES: dict[str, Callable[[], DuplicationConfig]] = {"duplication": duplication}
