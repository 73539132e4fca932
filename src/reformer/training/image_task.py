"""Pictures as sequences of bytes: batches of whole pictures, bits per dim of whole pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reformer.data import Corpus, open_corpus, shift_right, shuffled, shuffled_rows
from reformer.data.images import check_images, load_images, open_images
from reformer.evaluation import bits_per_byte, picture_bits_per_dim
from reformer.models import ReformerLM
from reformer.training.config import TrainConfig
from reformer.training.corpus_card import corpus_card
from reformer.training.language_model_task import LanguageModelTask

_METRIC = "bits per dim"
# Folders come sorted by class: the first pictures would be of one class.
_EVALUATION_ORDER = 2**31


class ImageTask(LanguageModelTask):
    """Every picture one sequence, in raster order; the next byte is predicted."""

    yardsticks_note = "the yardsticks see those pictures only; the model has also seen the training split"

    def __init__(self, config: TrainConfig, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        self.train = open_images(corpus, "train")

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of the ``index``-th batch: every picture once an epoch, in a new order."""
        config = self.config
        rows = shuffled_rows(len(self.train), config.batch_size, seed=config.seed, step=index)
        targets = self.train[rows].reshape(len(rows), -1).astype(np.int64)
        return shift_right(targets, config.model.start_id), targets

    def evaluate(self, model: ReformerLM, split: str, limit: int, overlap: int = 0) -> dict[str, Any]:
        """Bits per dim, which are bits per byte over all bytes of whole pictures, at most ``limit`` bytes of them."""
        if overlap:
            raise ValueError(f"pictures are evaluated whole and apart: overlap must be 0, got {overlap}")
        found = self.pictures(split, limit)
        windows = ((picture.reshape(-1).astype(np.int64), picture.size) for picture in found)
        protocol = f"{self.describe(split, len(found))}, each byte scored once from those before it in its picture"
        return {
            **bits_per_byte(model, windows, batch_size=self.config.batch_size),
            "metric": _METRIC,
            "n_pictures": len(found),
            "protocol": protocol,
        }

    def yardsticks(self, split: str, limit: int) -> dict[str, dict[str, Any]]:
        """Order-0 entropy and lossless formats on the same pictures."""
        found = self.pictures(split, limit)
        how = f"{self.describe(split, len(found))}, the same; order-0 over all of them, formats a file each"
        common = {"n_bytes": found.size, "metric": _METRIC, "protocol": how}
        return {name: {"bits_per_byte": bits, **common} for name, bits in picture_bits_per_dim(found).items()}

    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """What the model reads, int64 [L], of each of the first ``n_windows`` pictures of an evaluation."""
        pictures = self.pictures(split, n_windows * self.config.seq_len)
        targets = (picture.reshape(1, -1).astype(np.int64) for picture in pictures)
        return (shift_right(target, self.config.model.start_id)[0] for target in targets)

    def pictures(self, split: str, limit: int) -> np.ndarray:
        """uint8 [n, side, side, 3]: those that an evaluation takes from a split, at least one."""
        found = open_images(self.corpus, split)
        order = shuffled(len(found), seed=_EVALUATION_ORDER)
        return found[order[: max(1, limit // self.config.seq_len)]]

    def describe(self, split: str, n_pictures: int) -> str:
        """Which pictures an evaluation takes, in words."""
        side, total = self.config.picture_side, len(open_images(self.corpus, split))
        which = "all" if n_pictures == total else f"{n_pictures:,} (the first in a fixed random order) of the"
        return f"{which} {total:,} {split} pictures, {side}x{side}x3"

    def card(self) -> dict[str, Any]:
        """Source, checksums and splits."""
        return corpus_card(self.corpus)


def load_task_images(config: TrainConfig, cache_dir: Path, prepared: Path | None) -> Corpus:
    """The pictures of ``config``, or those in the folder ``prepared``; left out ones are told of on standard error."""
    side = config.picture_side
    if prepared is not None:
        return check_images(open_corpus(prepared), side)
    return load_images(config.data, cache_dir, side, lambda line: print(line, file=sys.stderr))
