"""The paper's synthetic task 0w0w, whole: config, sequences, accuracy on the second w, and its recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from reformer.data import duplication_batch, shift_right
from reformer.evaluation import scored_accuracy
from reformer.models import ReformerConfig, ReformerLM
from reformer.tasks.config import EvalOptions, OptimizerConfig
from reformer.tasks.language_model import (
    AttentionOptions,
    FreshSequences,
    LanguageModelConfig,
    counted_where,
    drawn_card,
)
from reformer.tasks.protocol import Measurement


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
    eval_options: ClassVar[type[EvalOptions]] = DuplicationEvalOptions

    seq_len: int = 256
    """Symbols of a sequence, 2·|w| + 2."""
    eval_sequences: int = 128
    """Sequences of one evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_counts("eval_sequences")
        if self.seq_len % 2 or self.seq_len < 4:
            raise ValueError(f"task 'duplication' has seq_len 2·|w| + 2, even and at least 4, got {self.seq_len}")
        self.require_causal(", over at least two symbols")
        if self.model.vocab_size < 2:
            raise ValueError("task 'duplication' is causal, over at least two symbols")

    def make_task(self, cache_dir: Path, prepared: Path | None = None) -> DuplicationTask:
        """The task; it needs no data."""
        return DuplicationTask(self)


class DuplicationTask(FreshSequences):
    """Loss and accuracy on the second w of 0w0w."""

    corpus = None
    yardsticks_note = "nothing but a copy of w predicts it: log2 of the number of symbols is what a guess costs"

    def __init__(self, config: DuplicationConfig) -> None:
        self.config = config
        self.half = config.seq_len // 2 - 1

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of the ``index``-th batch."""
        sequence, mask = self._draw(self.config.batch_size, self.config.seed, index)
        return shift_right(sequence, self.config.model.start_id), counted_where(mask, sequence)

    def validate(self, model: ReformerLM) -> Measurement:
        """Bits per symbol of ``eval_sequences``."""
        return self.evaluate(model, "validation", self.config.eval_sequences)

    def evaluate(self, model: ReformerLM, split: str, limit: int) -> Measurement:
        """Bits per symbol, and accuracy, on ``limit`` fresh sequences; validation and test are different ones."""
        seed, size = self.seed_of(split), self.config.batch_size
        batches = (self._draw(min(size, limit - first), seed, first) for first in range(0, limit, size))
        found = scored_accuracy(model, batches)
        return Measurement(
            metric=self.config.metric,
            value=found.bits,
            n=found.n,
            unit="symbols",
            protocol=f"{limit:,} fresh sequences 0w0w with |w| = {self.half}, second w scored, fresh rotations per batch",
            extras={"accuracy": found.accuracy},
        )

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """Inputs [L] of fresh sequences."""
        sequences, _ = self._draw(n_windows, self.seed_of(split), 0)
        return iter(shift_right(sequences, self.config.model.start_id))

    def card(self) -> dict[str, Any]:
        """What the sequences are made from."""
        return drawn_card(f"synthetic: 0w0w, |w| = {self.half}, symbols 1..{self.config.model.vocab_size - 1}")

    def _draw(self, size: int, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        symbols = self.config.model.vocab_size - 1
        return duplication_batch(self.half, size, seed=seed, step=index, n_symbols=symbols)


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
