"""Associative recall as a task: facts in noise, or needles in the text of a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reformer.data import Corpus, noise_filler, recall_batch, sample_windows, shift_right
from reformer.data.recall import N_VALUES
from reformer.evaluation import scored_accuracy
from reformer.models import ReformerLM
from reformer.training.config import TrainConfig
from reformer.training.corpus_card import corpus_card
from reformer.training.language_model_task import LanguageModelTask

# Training begins with rows of about so many symbols: among thousands of others a statement is not found by chance.
_FIRST_LENGTH = 128
# Evaluation draws its sequences from streams of their own.
_EVALUATION_SEED = 2**31


class RecallTask(LanguageModelTask):
    """Values of facts asked for again, loss and accuracy on those alone; ``corpus`` None: between them stands noise."""

    yardsticks_note = f"a guess costs log2({N_VALUES}) = {np.log2(N_VALUES):g} bits"

    def __init__(self, config: TrainConfig, corpus: Corpus | None) -> None:
        self.config, self.corpus = config, corpus

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of the ``index``-th batch: rows grow to seq_len until half-time, and get fewer as they do."""
        doublings = max(0, (self.config.seq_len // _FIRST_LENGTH).bit_length() - 1)
        total = self.config.steps * self.config.accumulate
        missing = max(0, doublings - 2 * index * doublings // total)
        length, size = self.config.seq_len >> missing, self.config.batch_size << missing
        sequence, distance = self._draw("train", size, self.config.seed, index, length)
        return shift_right(sequence, self.config.model.start_id), np.where(distance > 0, sequence, -100)

    def evaluate(self, model: ReformerLM, split: str, limit: int, overlap: int = 0) -> dict[str, Any]:
        """Accuracy and bits per value on ``limit`` fresh sequences; validation and test are different ones."""
        return self.evaluate_between(model, split, limit, 1, self.config.seq_len)

    def evaluate_between(
        self, model: ReformerLM, split: str, limit: int, nearest: int, farthest: int
    ) -> dict[str, Any]:
        """``evaluate`` of the values that were stated ``nearest`` to ``farthest`` symbols before."""
        size, seed, length = self.config.batch_size, self._seed(split), self.config.seq_len
        drawn = (self._draw(split, min(size, limit - first), seed, first, length) for first in range(0, limit, size))
        result = scored_accuracy(
            model, ((sequence, (nearest <= distance) & (distance <= farthest)) for sequence, distance in drawn)
        )
        between = "noise" if self.corpus is None else f"text of the {split} split of {self.corpus.name}"
        protocol = f"{limit:,} fresh sequences of {length:,}, facts asked again, {between} between them"
        return {**result, "protocol": protocol}

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """Inputs [L] of fresh sequences."""
        sequences, _ = self._draw(split, n_windows, self._seed(split), 0, self.config.seq_len)
        return iter(shift_right(sequences, self.config.model.start_id))

    def yardsticks(self, split: str, limit: int) -> dict[str, dict[str, Any]]:
        """None: values are drawn at random."""
        return {}

    def card(self) -> dict[str, Any]:
        """What the sequences are made from."""
        if self.corpus is not None:
            return corpus_card(self.corpus)
        return {
            "source": "synthetic: facts in noise, STATE value key and later ASK key value",
            "checksums": "none: drawn from (seed, step)",
            "splits": "endless; evaluation draws from other seeds",
        }

    def _seed(self, split: str) -> int:
        return _EVALUATION_SEED + (split == "test")

    def _draw(self, split: str, size: int, seed: int, step: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        if self.corpus is None:
            filler = noise_filler(size, length, seed=seed, step=step)
        else:
            filler = sample_windows(self.corpus.split(split), length, size, seed=seed, step=step)
        return recall_batch(filler, seed=seed, step=step)
