"""Pictures of a trained model, drawn or completed, in rows and columns."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reformer.data import SPLITS
from reformer.data.images import read_images
from reformer.generation import SamplingConfig, draw_pictures
from reformer.models import ReformerLM
from reformer.tasks.protocol import ProgressReport

_HIDDEN_GREY = 128


@dataclass(frozen=True, kw_only=True)
class DrawOptions(SamplingConfig):
    """What to draw and how."""

    n: int = 8
    """How many pictures."""
    complete: str | None = None
    """Complete pictures instead: train, validation or test of the run, or the path of a picture, folder or archive. A row of
    the grid is the picture, what the model sees of it, and what the model makes of that."""
    keep: float = 0.5
    """Of --complete: the share of rows, from the top, that the model sees."""
    seed: int = 0
    """Fixes the draws and the hash rotations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1:
            raise ValueError(f"--n must be at least 1, got {self.n}")


def draw(
    side: int,
    model: ReformerLM,
    options: DrawOptions,
    pictures_of: Callable[[str, int], np.ndarray],
    progress: ProgressReport,
) -> np.ndarray:
    """Pictures uint8 [rows, columns, side, side, 3] of ``side`` x ``side`` pixels.

    Drawn: as square a grid as it gets, missing ones white. Completed: a row is the picture, what the model sees, and its
    completion; ``pictures_of(split, n)`` are those of the run. Raises ValueError for a share of rows that leaves nothing to
    see or to complete, or pictures that are not there.
    """
    originals, kept = None, 0
    beginnings = [np.empty((0, side, 3), np.uint8)] * options.n
    if options.complete is not None:
        kept = round(options.keep * side) if 0 < options.keep < 1 else 0
        if not 1 <= kept < side:
            raise ValueError(f"--keep must leave 1 to {side - 1} of {side} rows, got {options.keep}")
        originals = _originals(side, options.complete, options.n, pictures_of)
        beginnings = list(originals[:, :kept])
    pictures = draw_pictures(model, side, beginnings, options, seed=options.seed, progress=progress)
    if originals is not None:
        seen = originals.copy()
        seen[:, kept:] = _HIDDEN_GREY
        return np.stack([originals, seen, pictures], axis=1)
    columns = math.isqrt(options.n - 1) + 1
    rows = -(-options.n // columns)
    white = np.full((rows * columns - options.n, side, side, 3), 255, np.uint8)
    return np.concatenate([pictures, white]).reshape(rows, columns, side, side, 3)


def _originals(side: int, source: str, n: int, pictures_of: Callable[[str, int], np.ndarray]) -> np.ndarray:
    if source in SPLITS:
        return pictures_of(source, n)
    near = difflib.get_close_matches(source, SPLITS, n=1)
    if near and not Path(source).expanduser().exists():
        raise ValueError(f"no split, file or folder {source!r}; did you mean {near[0]}?")
    return np.stack(read_images(source, side, n))
