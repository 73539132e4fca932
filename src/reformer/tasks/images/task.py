"""Pictures as a task: their config, batches of whole pictures as bytes, bits per dim of whole pictures."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from reformer.data import Corpus, open_corpus, shuffled, shuffled_rows
from reformer.data.images import check_images, load_images, open_images
from reformer.evaluation.mean_bits import mean_bits
from reformer.evaluation.yardsticks import picture_bits_per_dim
from reformer.models import ReformerLM
from reformer.tasks.config import EvalOptions
from reformer.tasks.images.drawing import DrawOptions, draw
from reformer.tasks.language_model import EVALUATION_SEED, AttentionOptions, LanguageModelConfig, LanguageModelTask
from reformer.tasks.protocol import Measurement, ProgressReport, silent


@dataclass(frozen=True, kw_only=True)
class ImagesEvalOptions(AttentionOptions):
    """What to measure: bits per dim of whole pictures, beside lossless formats."""

    limit: int = 64
    """Pictures of each split, the first in a fixed random order."""


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(LanguageModelConfig):
    """Square pictures as bytes, each one sequence in raster order (seq_len = 3·side²); the next byte is predicted."""

    task: ClassVar[str] = "images"
    metric: ClassVar[str] = "bits per dim"
    eval_count: ClassVar[str] = "eval_pictures"
    eval_options: ClassVar[type[EvalOptions]] = ImagesEvalOptions

    data: str = "imagenet64"
    """The path of a folder, a zip or tar archive of pictures, or of the downsampled ImageNet's files, or shapes (drawn, they
    need no data)."""
    seq_len: int = 3 * 32 * 32
    """Bytes of a picture, 3·side²."""
    batch_size: int = 1
    """Pictures of one forward and backward pass."""
    eval_pictures: int = 64
    """Validation pictures of one evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_bytes()
        self.require_causal(": each byte is predicted from those before it")
        side = self.picture_side
        if 3 * side * side != self.seq_len:
            near = [3 * s * s for s in (side, side + 1)]
            raise ValueError(
                f"task 'images' has seq_len 3·side², for example {near[0]} or {near[1]}, got {self.seq_len}"
            )
        axes = self.model.axial_shape
        if self.model.positions == "axial" and len(axes) == 3 and tuple(axes) != (side, side, 3):
            raise ValueError(
                f"pictures of {side} x {side} have the axes {side} {side} 3 (rows, columns, colours), got "
                f"{' '.join(map(str, axes))}; give --model.axial-shape {side} {side} 3"
            )

    @property
    def picture_side(self) -> int:
        """Rows and columns of a picture."""
        return math.isqrt(self.seq_len // 3)

    def make_task(self, cache_dir: Path, prepared: Path | None = None) -> ImageTask:
        """The task over the config's pictures, or those prepared in a folder; left out ones are told of on standard error."""
        if prepared is not None:
            return ImageTask(self, check_images(open_corpus(prepared), self.picture_side))
        corpus = load_images(self.data, cache_dir, self.picture_side, lambda line: print(line, file=sys.stderr))
        return ImageTask(self, corpus)

    def generate(
        self,
        model: ReformerLM,
        prompt: bytes,
        options: Any,
        cache_dir: Path,
        prepared: Path | None = None,
    ) -> Iterator[bytes]:
        raise ValueError("this run was trained on pictures; draw some with: reformer images RUN")

    def draw(
        self,
        model: ReformerLM,
        options: DrawOptions,
        cache_dir: Path,
        prepared: Path | None = None,
        progress: ProgressReport = silent,
    ) -> np.ndarray:
        """Pictures uint8 [rows, columns, side, side, 3], drawn or (``options.complete``) completed; missing ones are white."""
        return draw(
            self.picture_side,
            model,
            options,
            lambda split, n: self.make_task(cache_dir, prepared).pictures(split, n),
            progress,
        )


class ImageTask(LanguageModelTask):
    """Every picture one sequence, in raster order; the next byte is predicted."""

    corpus: Corpus
    yardsticks_note = "the yardsticks see those pictures only; the model has also seen the training split"

    def __init__(self, config: ImagesConfig, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        self.train = open_images(corpus, "train")

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of the ``index``-th batch: every picture once an epoch, in a new order."""
        config = self.config
        rows = shuffled_rows(len(self.train), config.batch_size, seed=config.seed, step=index)
        targets = self.train[rows].reshape(len(rows), -1).astype(np.int64)
        return self.inputs(targets), targets

    def evaluate(self, model: ReformerLM, split: str, limit: int) -> Measurement:
        """Bits per dim, which are bits per byte over all bytes, of at most ``limit`` whole pictures."""
        found = self.pictures(split, limit)
        windows = ((picture.reshape(-1).astype(np.int64), picture.size) for picture in found)
        result = mean_bits(model, windows, batch_size=self.config.batch_size)
        protocol = f"{self.describe(split, len(found))}, each byte scored once from those before it in its picture"
        return _bits_per_dim(result.bits, found, protocol)

    def yardsticks(self, split: str, limit: int) -> dict[str, Measurement]:
        """Order-0 entropy and lossless formats on the same pictures."""
        found = self.pictures(split, limit)
        how = f"{self.describe(split, len(found))}, the same; order-0 over all of them, formats a file each"
        return {name: _bits_per_dim(bits, found, how) for name, bits in picture_bits_per_dim(found).items()}

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        targets = (picture.reshape(1, -1).astype(np.int64) for picture in self.pictures(split, n_windows))
        return (self.inputs(target)[0] for target in targets)

    def pictures(self, split: str, limit: int) -> np.ndarray:
        """uint8 [n, side, side, 3]: the first ``limit`` that an evaluation takes from a split, or all where there are fewer."""
        found = open_images(self.corpus, split)
        # Folders come sorted by class: the first pictures would be of one class.
        order = shuffled(len(found), seed=EVALUATION_SEED)
        pictures: np.ndarray = found[order[:limit]]
        return pictures

    def describe(self, split: str, n_pictures: int) -> str:
        """Which pictures an evaluation takes, in words."""
        side, total = self.config.picture_side, len(open_images(self.corpus, split))
        which = "all" if n_pictures == total else f"{n_pictures:,} (the first in a fixed random order) of the"
        return f"{which} {total:,} {split} pictures, {side}x{side}x3"


def _bits_per_dim(value: float, pictures: np.ndarray, protocol: str) -> Measurement:
    return Measurement(
        metric=ImagesConfig.metric,
        value=value,
        n=pictures.size,
        unit="bytes",
        protocol=protocol,
        extras={"n_pictures": len(pictures)},
    )
