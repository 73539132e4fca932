"""Pairs of sentences to learn to translate: by an encoder-decoder, or by a language model that reads both in one sequence.

B pairs, S source, T target length; every sentence ends with its end token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reformer.data import shift_right
from reformer.data.pairs.batches import BucketedBatches, padded
from reformer.data.pairs.corpus import PairCorpus, Sentences, open_pairs
from reformer.data.pairs.preparing import load_pairs
from reformer.evaluation.mean_bits import evaluating
from reformer.models import EncoderDecoderConfig, ReformerConfig, ReformerEncoderDecoder, ReformerLM
from reformer.ops.checks import require_at_least
from reformer.tasks.config import EvalOptions, RunConfig
from reformer.tasks.protocol import Evaluated, Measurement, Model, ProgressReport, Task, silent
from reformer.tasks.translation.evaluation import (
    BeamOptions,
    TranslateOptions,
    TranslationEvalOptions,
    bleu_rows,
    translated_lines,
)

_NOT_COUNTED = -100
_PADDING = -1
_EVALUATION_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class TranslationConfig(RunConfig):
    """An encoder-decoder on pairs of sentences."""

    task: ClassVar[str] = "translation"
    metric: ClassVar[str] = "bits per byte"
    eval_options: ClassVar[type[EvalOptions]] = TranslationEvalOptions
    generate_options: ClassVar[type[Any]] = TranslateOptions

    data: str = "pairs"
    """A file with source and target in two columns, or a folder with files of each split: train.en and train.de, .."""
    source_lang: str = "en"
    """How the source's files are called, behind the last dot of their names."""
    target_lang: str = "de"
    seq_len: int = 128
    """Longest sentence in tokens, its end token among them; pairs with a longer one are left out of training."""
    batch_tokens: int = 4096
    """Padded tokens on each side of one forward and backward pass, at most."""
    train_pairs: int | None = None
    """Only the first so many training pairs; None: all."""
    label_smoothing: float = 0.1
    eval_bytes: int = 65_536
    """Bytes of target text of one evaluation on the validation split."""
    model: EncoderDecoderConfig = field(default_factory=EncoderDecoderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("batch_tokens", self.batch_tokens, self.seq_len)
        if self.train_pairs is not None:
            require_at_least("train_pairs", self.train_pairs, 1)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        self.require_causal(": each target token is predicted from those before it")

    @property
    def tokens_per_step(self) -> int:
        """Padded target tokens of a step, at most."""
        return self.batch_tokens * self.accumulate

    def make_model(self) -> Model:
        return ReformerEncoderDecoder(self.model)

    def make_task(self, cache_dir: Path, prepared: Path | None = None) -> TranslationTask:
        return TranslationTask(self, self.open_pairs(cache_dir, prepared))

    def open_pairs(self, cache_dir: Path, prepared: Path | None) -> PairCorpus:
        """The pairs. Raises ValueError if they have more tokens than the model."""
        if prepared is not None:
            pairs = open_pairs(prepared)
        else:
            languages = {"source_lang": self.source_lang, "target_lang": self.target_lang}
            pairs = load_pairs(self.data, cache_dir, **languages, vocab_size=self.model.vocab_size)
        if pairs.vocabulary.size > self.model.vocab_size:
            raise ValueError(
                f"{self.data} was prepared with {pairs.vocabulary.size} tokens, model.vocab_size is "
                f"{self.model.vocab_size}; set it to {pairs.vocabulary.size}"
            )
        return pairs

    def generate(
        self, model: Any, prompt: bytes, options: TranslateOptions, cache_dir: Path, prepared: Path | None = None
    ) -> Iterator[bytes]:
        """The translation of each line of the prompt; an empty one stays empty."""
        return translated_lines(model, prompt, options, lambda: self.open_pairs(cache_dir, prepared).vocabulary)


@dataclass(frozen=True, kw_only=True)
class PackedTranslationConfig(TranslationConfig):
    """A language model on sequences of a source and its target; the target alone is predicted."""

    task: ClassVar[str] = "packed-translation"

    model: ReformerConfig = field(default_factory=ReformerConfig)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model.require_length(2 * self.seq_len)

    def make_model(self) -> Model:
        return ReformerLM(self.model)

    def make_task(self, cache_dir: Path, prepared: Path | None = None) -> TranslationTask:
        return PackedTranslationTask(self, self.open_pairs(cache_dir, prepared))


class TranslationTask(Task):
    """Batches of pairs of like length: the arrays of ``arguments``, under which the model takes them."""

    arguments: tuple[str, ...] = ("source", "source_segment_ids", "tokens", "segment_ids", "targets")

    def __init__(self, config: TranslationConfig, pairs: PairCorpus) -> None:
        self.config, self.pairs, self.corpus = config, pairs, pairs.corpus
        self.source, self.target = pairs.sentences("train")
        n = len(self.source) if config.train_pairs is None else config.train_pairs
        self.batches = self._bucketed(self.source.lengths[:n], self.target.lengths[:n])
        text = pairs.text("train")[:n]
        self.bytes_per_token = sum(len(target.encode()) for _, target in text) / int(self.target.lengths[:n].sum())

    def batch(self, index: int) -> tuple[np.ndarray, ...]:
        rows = self.batches[index].tolist()
        return self._arrays([self.source[row] for row in rows], [self.target[row] for row in rows])

    def loss(self, model: Any, batch: tuple[Tensor, ...], seed: Tensor) -> Tensor:
        """The mean loss, labels smoothed, in nats a target token."""
        return self._loss(model, batch, seed, "mean", self.config.label_smoothing)

    def evaluate(self, model: Any, split: str, limit: int) -> Measurement:
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
        value = nats / math.log(2) / scored
        return Measurement(metric=self.config.metric, value=value, n=scored, unit="bytes", protocol=protocol)

    def evaluations(
        self, model: Any, options: TranslationEvalOptions, progress: ProgressReport = silent
    ) -> Iterator[Evaluated]:
        """BLEU of every set of every split by every number of beams, beside the control with shuffled sources."""
        for split in options.splits:
            for num_beams in options.num_beams:
                beams = BeamOptions(num_beams=num_beams, alpha=options.alpha)
                yield from bleu_rows(
                    self.pairs,
                    model,
                    split,
                    beams,
                    limit=options.limit,
                    train_pairs=self.config.train_pairs,
                    progress=progress,
                )

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """Refused: what is inspected window by window is a language model of bytes."""
        raise ValueError(
            f"a run of task {self.config.task!r} has no windows of bytes to inspect; give one that was trained on text"
        )

    def card(self) -> dict[str, Any]:
        """Source, checksums, splits and vocabulary."""
        return {**super().card(), "left_out_for_length": self.batches.n_left_out}

    def _bucketed(self, source_lengths: np.ndarray, target_lengths: np.ndarray) -> BucketedBatches:
        c = self.config
        longer = np.maximum(source_lengths, target_lengths)
        return BucketedBatches(longer, batch_tokens=c.batch_tokens, max_len=c.seq_len, seed=c.seed)

    def _nats(self, model: Any, source: Sentences, target: Sentences, rows: list[int]) -> float:
        device = model.norm.weight.device
        arrays = self._arrays([source[row] for row in rows], [target[row] for row in rows])
        batch = tuple(torch.from_numpy(array).to(device) for array in arrays)
        return float(self._loss(model, batch, torch.tensor(0, dtype=torch.int64, device="cpu"), "sum", 0.0))

    def _arrays(self, sources: list[np.ndarray], targets: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        target = padded(targets, _NOT_COUNTED)
        inputs = shift_right(np.where(target < 0, 0, target), self.config.model.start_id)
        return padded(sources, 0), _segments(sources), inputs, _segments(targets), target

    def _loss(self, model: Any, batch: tuple[Tensor, ...], seed: Tensor, reduction: str, smoothing: float) -> Tensor:
        given = dict(zip(self.arguments, batch, strict=True))
        loss: Tensor = model(**given, seed=seed, reduction=reduction, label_smoothing=smoothing)
        return loss


class PackedTranslationTask(TranslationTask):
    """A source and its target in one sequence, of which the target is predicted.

    As the authors did later (trax, ``Reformer2``): source and shifted target one behind the other, read causally.
    """

    arguments = ("tokens", "segment_ids", "targets")

    def _bucketed(self, source_lengths: np.ndarray, target_lengths: np.ndarray) -> BucketedBatches:
        c = self.config
        # A sentence of either side may have seq_len tokens, their sequence twice as many.
        longest = 2 * c.seq_len
        too_long = np.maximum(source_lengths, target_lengths) > c.seq_len
        lengths = np.where(too_long, longest + 1, source_lengths + target_lengths)
        return BucketedBatches(lengths, batch_tokens=max(c.batch_tokens, longest), max_len=longest, seed=c.seed)

    def _arrays(self, sources: list[np.ndarray], targets: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        rows = [np.concatenate(pair) for pair in zip(sources, targets)]
        tokens = padded(rows, 0)
        wanted = padded(
            [np.concatenate([np.full_like(s, _NOT_COUNTED), t]) for s, t in zip(sources, targets)], _NOT_COUNTED
        )
        return shift_right(tokens, self.config.model.start_id), _segments(rows), wanted


def _segments(rows: list[np.ndarray]) -> np.ndarray:
    return padded([np.zeros_like(row) for row in rows], _PADDING)
