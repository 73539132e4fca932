"""Pictures of a trained model, drawn or completed, in rows and columns."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
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
class DrawOptions:
    """What to draw and how."""

    n: int = 8
    """How many pictures."""
    complete: str | None = None
    """Complete pictures instead: train, validation or test of the run, or the path of a picture, folder or archive. A row of
    the grid is the picture, what the model sees of it, and what the model makes of that."""
    keep: float = 0.5
    """Of --complete: the share of rows, from the top, that the model sees."""
    temperature: float = 1.0
    """0: always the likeliest byte."""
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int = 0
    """Fixes the draws and the hash rotations."""

    def __post_init__(self) -> None:
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
    if options.complete is not None:
        return _completed(side, model, options, options.complete, pictures_of, progress)
    pictures = _continued(model, side, [np.empty((0, side, 3), np.uint8)] * options.n, options, progress)
    columns = math.isqrt(options.n - 1) + 1
    rows = -(-options.n // columns)
    white = np.full((rows * columns - options.n, side, side, 3), 255, np.uint8)
    return np.concatenate([pictures, white]).reshape(rows, columns, side, side, 3)


def _completed(
    side: int,
    model: ReformerLM,
    options: DrawOptions,
    source: str,
    pictures_of: Callable[[str, int], np.ndarray],
    progress: ProgressReport,
) -> np.ndarray:
    kept = round(options.keep * side) if 0 < options.keep < 1 else 0
    if not 1 <= kept < side:
        raise ValueError(f"--keep must leave 1 to {side - 1} of {side} rows, got {options.keep}")
    if source in SPLITS:
        originals = pictures_of(source, options.n)
    else:
        near = difflib.get_close_matches(source, SPLITS, n=1)
        if near and not Path(source).expanduser().exists():
            raise ValueError(f"no split, file or folder {source!r}; did you mean {near[0]}?")
        originals = np.stack(read_images(source, side, options.n))
    seen = originals.copy()
    seen[:, kept:] = _HIDDEN_GREY
    return np.stack([originals, seen, _continued(model, side, list(originals[:, :kept]), options, progress)], axis=1)


def _continued(
    model: ReformerLM, side: int, beginnings: Sequence[np.ndarray], options: DrawOptions, progress: ProgressReport
) -> np.ndarray:
    sampling = SamplingConfig(
        temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, min_p=options.min_p
    )
    return draw_pictures(model, side, beginnings, sampling, seed=options.seed, progress=progress)
