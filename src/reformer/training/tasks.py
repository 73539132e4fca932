"""What a run learns from and is measured on: batches as a function of the step, and an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from reformer.data import (
    Corpus,
    DataError,
    duplication_batch,
    evaluation_windows,
    load_corpus,
    masked_batch,
    open_corpus,
    sample_windows,
    shift_right,
)
from reformer.evaluation import (
    bits_by_position,
    bits_per_byte,
    compressor_bits_per_byte,
    masked_bits_per_byte,
    scored_accuracy,
)
from reformer.models import ReformerLM
from reformer.training.config import TrainConfig
from reformer.training.corpus_card import corpus_card
from reformer.training.image_task import ImageTask, load_task_images
from reformer.training.language_model_task import LanguageModelTask
from reformer.training.recall_task import RecallTask
from reformer.training.translation_config import TranslationConfig
from reformer.training.translation_task import make_translation_task

# Evaluation batches of synthetic tasks and of masks come from streams of their own.
_EVALUATION_SEED = 2**31


class Task(Protocol):
    """A source of batches and a measurement."""

    @property
    def corpus(self) -> Corpus | None:
        """Where the data lies; None if it is made up."""

    @property
    def yardsticks_note(self) -> str:
        """What must be known to compare with the yardsticks."""

    @property
    def bytes_per_token(self) -> float:
        """What a token of the loss stands for, on the average."""

    def batch(self, index: int) -> tuple[np.ndarray, ...]:
        """The arrays of the ``index``-th batch of the run."""

    def loss(self, model: Any, batch: tuple[Tensor, ...], seed: Tensor) -> Tensor:
        """The mean loss in nats of a batch, as tensors."""

    def evaluate(self, model: Any, split: str, limit: int, overlap: int = 0) -> dict[str, Any]:
        """{"bits_per_byte", "n_bytes", "protocol", ...} on a split; "metric" where another name is usual."""

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """What the model reads, int64 [L], in each of the first ``n_windows`` windows of a split."""

    def yardsticks(self, split: str, limit: int) -> dict[str, dict[str, Any]]:
        """What needs no training makes of the same data, by name, as ``evaluate``."""

    def card(self) -> dict[str, Any]:
        """The data's part of the run card."""


class TextTask(LanguageModelTask):
    """Windows of a byte corpus: the next byte (causal), or hidden bytes (masked)."""

    yardsticks_note = "gzip, bzip2 and xz see those bytes only; the model has also seen the training split"

    def __init__(self, config: TrainConfig, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        self.train = corpus.split("train")
        # Refused now, with the reason, rather than at the first batch or evaluation.
        for split in ("train", "validation", "test"):
            if len(corpus.split(split)) == 0:
                raise DataError(f"the {split} split of {corpus.name} is empty; give more data")
        sample_windows(self.train, config.seq_len, 1, seed=0, step=0)

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of the ``index``-th batch."""
        config = self.config
        windows = sample_windows(self.train, config.seq_len, config.batch_size, seed=config.seed, step=index)
        if config.objective == "causal":
            return shift_right(windows, config.model.start_id), windows
        inputs, mask = masked_batch(windows, mask_id=config.model.mask_id, seed=config.seed, step=index)
        return inputs, np.where(mask, windows, -100)

    def evaluate(self, model: ReformerLM, split: str, limit: int, overlap: int = 0) -> dict[str, Any]:
        """Bits per byte on the first ``limit`` bytes of ``split``."""
        data, length = self.corpus.split(split), self.config.seq_len
        windows = evaluation_windows(data, length, overlap=overlap, limit=limit)
        if self.config.objective == "masked":
            result = masked_bits_per_byte(model, self._masked(windows))
            how = "15% of the bytes hidden (fixed seed), scored where hidden"
        else:
            result = bits_per_byte(model, windows, batch_size=self.config.batch_size)
            how = f"each byte scored once, {f'with {overlap} bytes of context' if overlap else 'no carried context'}"
        protocol = f"first {min(limit, len(data)):,} {split} bytes, windows of {length:,}, overlap {overlap:,}; {how}"
        return {**result, "protocol": protocol}

    def evaluate_positions(
        self, model: ReformerLM, split: str, limit: int, edges: Sequence[int]
    ) -> list[tuple[int, float]]:
        """(edge, bits per byte of the bytes from the edge before up to this one) in whole windows of the first ``limit`` bytes.

        Raises ValueError for a masked task and where no whole window fits.
        """
        if self.config.objective != "causal":
            raise ValueError(f"bits per byte by position are those of a causal model, not {self.config.objective}")
        length = self.config.seq_len
        windows = evaluation_windows(self.corpus.split(split), length, limit=limit)
        whole = (window for window, _ in windows if len(window) == length)
        return list(zip(edges, bits_by_position(model, whole, edges)))

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """Inputs [L] of successive windows; the last one, or a short split's only one, may be shorter."""
        length = self.config.seq_len
        windows = evaluation_windows(self.corpus.split(split), length, limit=n_windows * length)
        if self.config.objective == "masked":
            return (inputs[0] for inputs, _, _ in self._masked(windows))
        return (shift_right(window[None], self.config.model.start_id)[0] for window, _ in windows)

    def yardsticks(self, split: str, limit: int) -> dict[str, dict[str, Any]]:
        """General-purpose compressors on the same bytes."""
        data = self.corpus.split(split)[:limit].tobytes()
        common = {"n_bytes": len(data), "protocol": f"the same first {len(data):,} {split} bytes, compressed alone"}
        return {name: {"bits_per_byte": bits, **common} for name, bits in compressor_bits_per_byte(data).items()}

    def card(self) -> dict[str, Any]:
        """Source, checksums and splits."""
        return corpus_card(self.corpus)

    def _masked(self, windows: Iterator[tuple[np.ndarray, int]]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for index, (window, _) in enumerate(windows):
            inputs, mask = masked_batch(
                window[None], mask_id=self.config.model.mask_id, seed=_EVALUATION_SEED, step=index
            )
            yield inputs, window[None], mask


class DuplicationTask(LanguageModelTask):
    """The paper's synthetic task 0w0w: loss and accuracy on the second w."""

    corpus = None
    yardsticks_note = "nothing but a copy of w predicts it: log2 of the number of symbols is what a guess costs"

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.half = config.seq_len // 2 - 1

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of the ``index``-th batch."""
        sequence, mask = self._draw(self.config.batch_size, self.config.seed, index)
        return shift_right(sequence, self.config.model.start_id), np.where(mask, sequence, -100)

    def evaluate(self, model: ReformerLM, split: str, limit: int, overlap: int = 0) -> dict[str, Any]:
        """Accuracy and bits per symbol on ``limit`` fresh sequences; validation and test are different ones."""
        seed = self._seed(split)
        size = self.config.batch_size
        batches = (self._draw(min(size, limit - first), seed, first) for first in range(0, limit, size))
        result = scored_accuracy(model, batches)
        protocol = f"{limit:,} fresh sequences 0w0w with |w| = {self.half}, second w scored, fresh rotations per batch"
        return {**result, "protocol": protocol}

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """Inputs [L] of fresh sequences."""
        sequences, _ = self._draw(n_windows, self._seed(split), 0)
        return iter(shift_right(sequences, self.config.model.start_id))

    def yardsticks(self, split: str, limit: int) -> dict[str, dict[str, Any]]:
        """None: the sequences cannot be compressed."""
        return {}

    def card(self) -> dict[str, Any]:
        """What the sequences are made from."""
        return {
            "source": f"synthetic: 0w0w, |w| = {self.half}, symbols 1..{self.config.model.vocab_size - 1}",
            "checksums": "none: drawn from (seed, step)",
            "splits": "endless; evaluation draws from other seeds",
        }

    def _seed(self, split: str) -> int:
        return _EVALUATION_SEED + (split == "test")

    def _draw(self, size: int, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        symbols = self.config.model.vocab_size - 1
        return duplication_batch(self.half, size, seed=seed, step=index, n_symbols=symbols)


def make_task(config: TrainConfig, cache_dir: Path, prepared: Path | None = None) -> Task:
    """The task of ``config``; ``prepared`` is the folder of an already prepared corpus (what a resumed run recorded)."""
    if config.task == "duplication":
        return DuplicationTask(config)
    if isinstance(config, TranslationConfig):
        return make_translation_task(config, cache_dir, prepared)
    if config.task == "images":
        return ImageTask(config, load_task_images(config, cache_dir, prepared))
    if config.task == "recall" and config.data == "synthetic":
        return RecallTask(config, None)
    corpus = open_corpus(prepared) if prepared is not None else load_corpus(config.data, cache_dir)
    return RecallTask(config, corpus) if config.task == "recall" else TextTask(config, corpus)
