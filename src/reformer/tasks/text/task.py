"""Text as a task: its config, windows of a byte corpus, and bits per byte of held-out text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from reformer.data import (
    SPLITS,
    Corpus,
    DataError,
    evaluation_windows,
    load_corpus,
    masked_batch,
    open_corpus,
    sample_windows,
)
from reformer.evaluation.mean_bits import masked_mean_bits, mean_bits
from reformer.evaluation.yardsticks import compressor_bits_per_byte
from reformer.models import ReformerLM
from reformer.ops.checks import require_choice
from reformer.tasks.config import EvalOptions
from reformer.tasks.language_model import (
    EVALUATION_SEED,
    AttentionOptions,
    LanguageModelConfig,
    LanguageModelTask,
    counted_where,
)
from reformer.tasks.protocol import Evaluated, Measurement, ProgressReport, silent

OBJECTIVES = ("causal", "masked")


@dataclass(frozen=True, kw_only=True)
class TextEvalOptions(AttentionOptions):
    """What to measure: bits per byte, beside general-purpose compressors."""

    limit: int = 65_536
    """First bytes of each split."""
    overlap: int = 0
    """Bytes of context that a window repeats from the one before; 0: disjoint windows, no carried context."""
    window: int | None = None
    """Bytes of a window; default: that of training."""


@dataclass(frozen=True, kw_only=True)
class TextConfig(LanguageModelConfig):
    """Windows of a byte corpus: the next byte is predicted (causal), or hidden bytes are (masked)."""

    task: ClassVar[str] = "text"
    metric: ClassVar[str] = "bits per byte"
    eval_options: ClassVar[type[EvalOptions]] = TextEvalOptions

    data: str = "stdlib"
    """stdlib (this Python's own source text), enwik8, the path of a file or folder (.gz .xz .zst too), or - for standard
    input."""
    objective: str = "causal"
    """causal: next byte; masked: hidden bytes, for a bidirectional model (model.causal False)."""
    seq_len: int = 4096
    """Bytes of a training window."""
    batch_size: int = 1
    """Windows of one forward and backward pass."""
    eval_bytes: int = 65_536
    """Validation bytes of one evaluation."""

    def __post_init__(self) -> None:
        require_choice("objective", self.objective, OBJECTIVES)
        super().__post_init__()
        if (self.objective == "masked") == self.model.causal:
            raise ValueError(
                f"objective {self.objective!r} needs model.causal={self.objective == 'causal'}, got {self.model.causal}"
            )
        self.require_bytes()

    def make_task(self, cache_dir: Path, prepared: Path | None = None) -> TextTask:
        return TextTask(self, load_corpus(self.data, cache_dir) if prepared is None else open_corpus(prepared))


class TextTask(LanguageModelTask):
    """Windows of a byte corpus: the next byte (causal), or hidden bytes (masked)."""

    corpus: Corpus
    yardsticks_note = "gzip, bzip2 and xz see those bytes only; the model has also seen the training split"

    def __init__(self, config: TextConfig, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        self.train = corpus.split("train")
        # Refused now, with the reason, rather than at the first batch or evaluation.
        for split in SPLITS:
            if len(corpus.split(split)) == 0:
                raise DataError(f"the {split} split of {corpus.name} is empty; give more data")
        sample_windows(self.train, config.seq_len, 1, seed=0, step=0)

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        config = self.config
        windows = sample_windows(self.train, config.seq_len, config.batch_size, seed=config.seed, step=index)
        if config.objective == "causal":
            return self.inputs(windows), windows
        inputs, mask = masked_batch(windows, mask_id=config.model.mask_id, seed=config.seed, step=index)
        return inputs, counted_where(mask, windows)

    def evaluate(self, model: ReformerLM, split: str, limit: int, overlap: int = 0) -> Measurement:
        """Bits per byte on the first ``limit`` bytes of ``split``."""
        data, length = self.corpus.split(split), self.config.seq_len
        windows = evaluation_windows(data, length, overlap=overlap, limit=limit)
        if self.config.objective == "masked":
            result = masked_mean_bits(model, self._masked(windows))
            how = "15% of the bytes hidden (fixed seed), scored where hidden"
        else:
            result = mean_bits(model, windows, batch_size=self.config.batch_size)
            how = f"each byte scored once, {f'with {overlap} bytes of context' if overlap else 'no carried context'}"
        protocol = f"first {min(limit, len(data)):,} {split} bytes, windows of {length:,}, overlap {overlap:,}; {how}"
        return _bits_per_byte(result.bits, result.n, protocol)

    def evaluate_with(self, model: ReformerLM, split: str, options: AttentionOptions) -> Measurement:
        assert isinstance(options, TextEvalOptions)
        return self.evaluate(model, split, options.limit, options.overlap)

    def evaluations(
        self, model: ReformerLM, options: AttentionOptions, progress: ProgressReport = silent
    ) -> Iterator[Evaluated]:
        """Every split under every attention, in windows of ``options.window``, then the compressors."""
        assert isinstance(options, TextEvalOptions)
        window = self.config.seq_len if options.window is None else options.window
        if not 0 <= options.overlap < window:
            raise ValueError(f"--overlap must be at least 0 and below the window of {window}, got {options.overlap}")
        if window != self.config.seq_len:
            of_windows = TextTask(replace(self.config, seq_len=window), self.corpus)
            return of_windows.evaluations(model, options, progress)
        return super().evaluations(model, options, progress)

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """Inputs [L] of successive windows; the last one, or a short split's only one, may be shorter."""
        length = self.config.seq_len
        windows = evaluation_windows(self.corpus.split(split), length, limit=n_windows * length)
        if self.config.objective == "masked":
            return (inputs[0] for inputs, _, _ in self._masked(windows))
        return (self.inputs(window[None])[0] for window, _ in windows)

    def yardsticks(self, split: str, limit: int) -> dict[str, Measurement]:
        """General-purpose compressors on the same bytes."""
        data = self.corpus.split(split)[:limit].tobytes()
        protocol = f"the same first {len(data):,} {split} bytes, compressed alone"
        found = compressor_bits_per_byte(data)
        return {name: _bits_per_byte(bits, len(data), protocol) for name, bits in found.items()}

    def _masked(self, windows: Iterator[tuple[np.ndarray, int]]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for index, (window, _) in enumerate(windows):
            inputs, mask = masked_batch(
                window[None], mask_id=self.config.model.mask_id, seed=EVALUATION_SEED, step=index
            )
            yield inputs, window[None], mask


def _bits_per_byte(value: float, n: int, protocol: str) -> Measurement:
    return Measurement(metric=TextConfig.metric, value=value, n=n, unit="bytes", protocol=protocol)
