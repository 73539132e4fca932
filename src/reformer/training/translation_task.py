"""Pairs of sentences to learn to translate: by an encoder-decoder, or by a language model that reads both in one sequence.

B pairs, S source, T target length; every sentence ends with its end token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reformer.data import shift_right
from reformer.data.pairs import BucketedBatches, PairCorpus, load_pairs, open_pairs, padded
from reformer.evaluation import evaluating
from reformer.training.corpus_card import corpus_card
from reformer.training.translation_config import PackedTranslationConfig, TranslationConfig

_NOT_COUNTED = -100
_PADDING = -1
_EVALUATION_ROWS = 32


class TranslationTask:
    """Batches (source, its segment ids, target inputs, their segment ids, targets) of pairs of like length."""

    yardsticks_note = "bits per byte of the target text given the source; BLEU is the measure of translations"

    def __init__(self, config: TranslationConfig, pairs: PairCorpus) -> None:
        self.config, self.pairs, self.corpus = config, pairs, pairs.corpus
        self.source, self.target = pairs.sentences("train")
        n = len(self.source) if config.train_pairs is None else config.train_pairs
        self.batches = self._bucketed(self.source.lengths[:n], self.target.lengths[:n])
        text = pairs.text("train")[:n]
        self.bytes_per_token = sum(len(target.encode()) for _, target in text) / int(self.target.lengths[:n].sum())

    def batch(self, index: int) -> tuple[np.ndarray, ...]:
        """The arrays of the ``index``-th batch."""
        rows = self.batches[index].tolist()
        return self._arrays([self.source[row] for row in rows], [self.target[row] for row in rows])

    def loss(self, model: Any, batch: tuple[Tensor, ...], seed: Tensor) -> Tensor:
        """The mean loss, labels smoothed, in nats a target token."""
        return self._loss(model, batch, seed, "mean", self.config.label_smoothing)

    def evaluate(self, model: Any, split: str, limit: int, overlap: int = 0) -> dict[str, Any]:
        """Bits per byte of the target text given the source, over the first pairs with ``limit`` bytes of it in all."""
        longest = self.config.seq_len
        source, target = self.pairs.sentences(split)
        n_bytes = np.array([len(text.encode()) for _, text in self.pairs.text(split)])
        rows = np.flatnonzero(np.maximum(source.lengths, target.lengths) <= longest)
        if not len(rows):
            raise ValueError(f"no {split} pair is at most {longest} tokens long; allow longer ones (seq_len)")
        rows = rows[: int(np.searchsorted(np.cumsum(n_bytes[rows]), limit)) + 1]
        nats = 0.0
        with evaluating(model):
            for first in range(0, len(rows), _EVALUATION_ROWS):
                nats += self._nats(model, source, target, rows[first : first + _EVALUATION_ROWS].tolist())
        scored = int(n_bytes[rows].sum())
        protocol = (
            f"target text of the first {len(rows):,} {split} pairs of at most {longest} tokens a side, given the source; "
            "end tokens counted, no label smoothing"
        )
        return {"bits_per_byte": nats / math.log(2) / scored, "n_bytes": scored, "protocol": protocol}

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """Refused: what is inspected window by window is a language model of bytes."""
        raise ValueError(
            f"a run of task {self.config.task!r} has no windows of bytes to inspect; give one that was trained on text"
        )

    def yardsticks(self, split: str, limit: int) -> dict[str, dict[str, Any]]:
        """None: a compressor cannot read the source."""
        return {}

    def card(self) -> dict[str, Any]:
        """Source, checksums, splits and vocabulary."""
        return {**corpus_card(self.corpus), "left_out_for_length": self.batches.n_left_out}

    def _bucketed(self, source_lengths: np.ndarray, target_lengths: np.ndarray) -> BucketedBatches:
        config = self.config
        return BucketedBatches(
            source_lengths,
            target_lengths,
            batch_tokens=config.batch_tokens,
            max_len=config.seq_len,
            seed=config.seed,
        )

    def _nats(self, model: Any, source: Any, target: Any, rows: list[int]) -> float:
        device = model.norm.weight.device
        arrays = self._arrays([source[row] for row in rows], [target[row] for row in rows])
        batch = tuple(torch.from_numpy(array).to(device) for array in arrays)
        return self._loss(model, batch, torch.tensor(0), "sum", 0.0).item()

    def _arrays(self, sources: list[np.ndarray], targets: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        target = padded(targets, _NOT_COUNTED)
        inputs = shift_right(np.where(target < 0, 0, target), self.config.model.start_id)
        return padded(sources, 0), _segments(sources), inputs, _segments(targets), target

    def _loss(self, model: Any, batch: tuple[Tensor, ...], seed: Tensor, reduction: str, smoothing: float) -> Tensor:
        source, source_segment_ids, inputs, segment_ids, targets = batch
        return model(
            source,
            inputs,
            targets=targets,
            source_segment_ids=source_segment_ids,
            segment_ids=segment_ids,
            seed=seed,
            reduction=reduction,
            label_smoothing=smoothing,
        )


class PackedTranslationTask(TranslationTask):
    """Batches (inputs, segment ids, targets): a source and its target in one sequence, of which the target is predicted.

    As the authors did later (trax, ``Reformer2``): source and shifted target one behind the other, read causally.
    """

    def _bucketed(self, source_lengths: np.ndarray, target_lengths: np.ndarray) -> BucketedBatches:
        config = self.config
        # A sentence of either side may have seq_len tokens, their sequence twice as many.
        too_long = np.maximum(source_lengths, target_lengths) > config.seq_len
        lengths = np.where(too_long, 2 * config.seq_len + 1, source_lengths + target_lengths)
        return BucketedBatches(
            lengths,
            lengths,
            batch_tokens=max(config.batch_tokens, 2 * config.seq_len),
            max_len=2 * config.seq_len,
            seed=config.seed,
        )

    def _arrays(self, sources: list[np.ndarray], targets: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        rows = [np.concatenate(pair) for pair in zip(sources, targets)]
        tokens = padded(rows, 0)
        wanted = padded(
            [np.concatenate([np.full_like(s, _NOT_COUNTED), t]) for s, t in zip(sources, targets)], _NOT_COUNTED
        )
        return shift_right(tokens, self.config.model.start_id), _segments(rows), wanted

    def _loss(self, model: Any, batch: tuple[Tensor, ...], seed: Tensor, reduction: str, smoothing: float) -> Tensor:
        inputs, segment_ids, targets = batch
        return model(
            inputs,
            targets=targets,
            segment_ids=segment_ids,
            seed=seed,
            reduction=reduction,
            label_smoothing=smoothing,
        )


def make_translation_task(config: TranslationConfig, cache_dir: Path, prepared: Path | None) -> TranslationTask:
    """The task of ``config``, over the pairs prepared in the folder ``prepared`` or else those it names."""
    if prepared is not None:
        pairs = open_pairs(prepared)
    else:
        pairs = load_pairs(
            config.data,
            cache_dir,
            source_lang=config.source_lang,
            target_lang=config.target_lang,
            vocab_size=config.model.vocab_size,
        )
    if pairs.vocabulary.size > config.model.vocab_size:
        raise ValueError(
            f"{config.data} was prepared with {pairs.vocabulary.size} tokens, model.vocab_size is "
            f"{config.model.vocab_size}; set it to {pairs.vocabulary.size}"
        )
    packed = isinstance(config, PackedTranslationConfig)
    return PackedTranslationTask(config, pairs) if packed else TranslationTask(config, pairs)


def _segments(rows: list[np.ndarray]) -> np.ndarray:
    return padded([np.zeros_like(row) for row in rows], _PADDING)
