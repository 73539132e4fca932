"""Associative recall, whole: facts in noise, or needles in the text of a corpus, and its recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from reformer.data import Corpus, load_corpus, noise_filler, open_corpus, recall_batch, sample_windows, shift_right
from reformer.data.recall import N_VALUES
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
from reformer.tasks.protocol import Measurement, corpus_card

NOISE = "synthetic"
# Training begins with rows of about so many symbols: among thousands of others a statement is not found by chance.
_FIRST_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class RecallEvalOptions(AttentionOptions):
    """What to measure: accuracy and bits per value of the facts asked again."""

    limit: int = 256
    """Fresh sequences of each split (in noise of the last split named: there all are alike)."""


@dataclass(frozen=True, kw_only=True)
class RecallConfig(LanguageModelConfig):
    """Facts stated and asked for again, in noise or in the text of a corpus (``reformer.data.recall``)."""

    task: ClassVar[str] = "recall"
    metric: ClassVar[str] = "bits per value"
    eval_options: ClassVar[type[EvalOptions]] = RecallEvalOptions

    data: str = NOISE
    """synthetic (noise), or the corpus whose text stands between the facts: stdlib, enwik8, a path, or - for standard input."""
    seq_len: int = 1024
    """Symbols of a sequence; training begins with rows of 128 and more, which grow to this until half-time."""
    eval_sequences: int = 64
    """Sequences of one evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_counts("eval_sequences")
        self.require_bytes()
        self.require_causal(": what is asked was stated before")

    def make_task(self, cache_dir: Path, prepared: Path | None = None) -> RecallTask:
        """The task, in noise or over the corpus that the config names, or the one prepared in a folder."""
        if self.data == NOISE:
            return RecallTask(self, None)
        return RecallTask(self, open_corpus(prepared) if prepared is not None else load_corpus(self.data, cache_dir))


class RecallTask(FreshSequences):
    """Values of facts asked for again, loss and accuracy on those alone; ``corpus`` None: between them stands noise."""

    yardsticks_note = f"a guess costs log2({N_VALUES}) = {np.log2(N_VALUES):g} bits"

    def __init__(self, config: RecallConfig, corpus: Corpus | None) -> None:
        self.config, self.corpus = config, corpus
        self.splits_differ = corpus is not None

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of the ``index``-th batch: rows grow to seq_len until half-time, and get fewer as they do."""
        doublings = max(0, (self.config.seq_len // _FIRST_LENGTH).bit_length() - 1)
        total = self.config.steps * self.config.accumulate
        missing = max(0, doublings - 2 * index * doublings // total)
        length, size = self.config.seq_len >> missing, self.config.batch_size << missing
        sequence, distance = self._draw("train", size, self.config.seed, index, length)
        return shift_right(sequence, self.config.model.start_id), counted_where(distance > 0, sequence)

    def validate(self, model: ReformerLM) -> Measurement:
        """Bits per value of ``eval_sequences``."""
        return self.evaluate(model, "validation", self.config.eval_sequences)

    def evaluate(self, model: ReformerLM, split: str, limit: int) -> Measurement:
        """Bits per value, and accuracy, on ``limit`` fresh sequences; validation and test are different ones."""
        return self.evaluate_between(model, split, limit, 1, self.config.seq_len)

    def evaluate_between(self, model: ReformerLM, split: str, limit: int, nearest: int, farthest: int) -> Measurement:
        """``evaluate`` of the values that were stated ``nearest`` to ``farthest`` symbols before."""
        size, seed, length = self.config.batch_size, self.seed_of(split), self.config.seq_len
        drawn = (self._draw(split, min(size, limit - first), seed, first, length) for first in range(0, limit, size))
        found = scored_accuracy(
            model, ((sequence, (nearest <= distance) & (distance <= farthest)) for sequence, distance in drawn)
        )
        between = "noise" if self.corpus is None else f"text of the {split} split of {self.corpus.name}"
        return Measurement(
            metric=self.config.metric,
            value=found.bits,
            n=found.n,
            unit="values",
            protocol=f"{limit:,} fresh sequences of {length:,}, facts asked again, {between} between them",
            extras={"accuracy": found.accuracy},
        )

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """Inputs [L] of fresh sequences."""
        sequences, _ = self._draw(split, n_windows, self.seed_of(split), 0, self.config.seq_len)
        return iter(shift_right(sequences, self.config.model.start_id))

    def card(self) -> dict[str, Any]:
        """What the sequences are made from."""
        if self.corpus is not None:
            return corpus_card(self.corpus)
        return drawn_card("synthetic: facts in noise, STATE value key and later ASK key value")

    def _draw(self, split: str, size: int, seed: int, step: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        if self.corpus is None:
            filler = noise_filler(size, length, seed=seed, step=step)
        else:
            filler = sample_windows(self.corpus.split(split), length, size, seed=seed, step=step)
        return recall_batch(filler, seed=seed, step=step)


def recall() -> RecallConfig:
    """Associative recall with local and LSH attention, facts in noise (or --data CORPUS: in text), on a laptop CPU."""
    return RecallConfig(
        name="recall",
        seq_len=1024,
        batch_size=8,
        steps=600,
        eval_every=100,
        eval_sequences=64,
        checkpoint_every=100,
        optimizer=OptimizerConfig(name="muon", lr=0.02, schedule="cosine", warmup_steps=20),
        model=ReformerConfig(
            d_model=128,
            d_ff=256,
            n_heads=2,
            attention=("local", "lsh"),
            n_hashes=4,
            positions="rotary-local",
            embedding_std=1.0,
        ),
    )


RECIPES: dict[str, Callable[[], RecallConfig]] = {"recall": recall}
