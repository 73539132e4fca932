"""``reformer images RUN --out GRID.png``: pictures of a run trained on pictures, drawn or completed, as one PNG."""

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from reformer.cli.parsing import UsageError, check_checkpoint, parse

if TYPE_CHECKING:
    import numpy as np

    from reformer.models import ReformerLM
    from reformer.training.run_directory import Run

_HIDDEN_GREY = 128


@dataclass(frozen=True, kw_only=True)
class ImagesOptions:
    """What to draw and how."""

    out: Path = Path("pictures.png")
    """The PNG file to write."""
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
    checkpoint: str = "latest"
    """latest or best."""
    cache_dir: Path = Path("~/.cache/reformer")


def run(arguments: Sequence[str]) -> int:
    """Parse, load, draw and write."""
    from tyro.conf import Positional

    @dataclass(frozen=True, kw_only=True)
    class Arguments(ImagesOptions):
        run: Annotated[Positional[Path], "Folder of a run."]

    description = "Draw pictures with a trained run, or complete some."
    options = parse(Arguments, arguments, prog="reformer images", description=description)
    if options.n < 1:
        raise UsageError(f"--n must be at least 1, got {options.n}")
    check_checkpoint(options.checkpoint)
    if not options.out.expanduser().absolute().parent.is_dir():
        raise UsageError(f"--out: there is no folder {options.out.expanduser().absolute().parent}")
    draw_grid(options.run.expanduser(), options)
    return 0


def draw_grid(directory: Path, options: ImagesOptions) -> None:
    """Write the grid and say what it is."""
    from reformer.data.images import picture_grid, write_png
    from reformer.training.run_directory import load_trained

    run_, model, step = load_trained(directory, options.checkpoint, lambda line: print(line, file=sys.stderr))
    if run_.config.task != "images":
        raise UsageError(f"{directory} was trained on {run_.config.task}, not on images; try reformer generate")
    pictures = _drawn(run_, model, options) if options.complete is None else _completed(run_, model, options)
    out = options.out.expanduser()
    write_png(out, picture_grid(pictures))
    rows, columns, size = pictures.shape[:3]
    what = "pictures" if options.complete is None else "picture, what was seen of it, completion"
    print(f"{out}: {rows} x {columns} of {size}x{size} pixels ({what}); checkpoint of step {step}")


def _drawn(run_: "Run", model: "ReformerLM", options: ImagesOptions) -> "np.ndarray":
    """[rows, columns, size, size, 3], as square as it gets; missing ones are white."""
    import math

    import numpy as np

    size = run_.config.picture_side
    drawn = _draw(model, size, [np.empty((0, size, 3), np.uint8)] * options.n, options)
    columns = math.isqrt(options.n - 1) + 1
    rows = -(-options.n // columns)
    white = np.full((rows * columns - options.n, size, size, 3), 255, np.uint8)
    return np.concatenate([drawn, white]).reshape(rows, columns, size, size, 3)


def _completed(run_: "Run", model: "ReformerLM", options: ImagesOptions) -> "np.ndarray":
    """[n, 3, size, size, 3]: a row is the picture, what the model sees, and its completion."""
    import numpy as np

    size = run_.config.picture_side
    kept = round(options.keep * size) if 0 < options.keep < 1 else 0
    if not 1 <= kept < size:
        raise UsageError(f"--keep must leave 1 to {size - 1} of {size} rows, got {options.keep}")
    originals = _originals(run_, options)
    seen = originals.copy()
    seen[:, kept:] = _HIDDEN_GREY
    completed = _draw(model, size, list(originals[:, :kept]), options)
    return np.stack([originals, seen, completed], axis=1)


def _originals(run_: "Run", options: ImagesOptions) -> "np.ndarray":
    import numpy as np

    from reformer.data import SPLITS
    from reformer.data.images import read_images
    from reformer.training.image_task import ImageTask, load_task_images

    config = run_.config
    assert options.complete is not None
    if options.complete not in SPLITS:
        near = difflib.get_close_matches(options.complete, SPLITS, n=1)
        if near and not Path(options.complete).expanduser().exists():
            raise UsageError(f"no split, file or folder {options.complete!r}; did you mean {near[0]}?")
        return np.stack(read_images(options.complete, config.picture_side, options.n))
    corpus = load_task_images(config, options.cache_dir.expanduser(), run_.corpus_directory)
    return ImageTask(config, corpus).pictures(options.complete, options.n * config.seq_len)


def _draw(model: "ReformerLM", size: int, beginnings: "Sequence[np.ndarray]", options: ImagesOptions) -> "np.ndarray":
    from reformer.generation import SamplingConfig, draw_pictures

    sampling = SamplingConfig(
        temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, min_p=options.min_p
    )
    return draw_pictures(model, size, beginnings, sampling, seed=options.seed, progress=_progress)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 64 == 0 or done == total):
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} bytes of each picture", end=end, file=sys.stderr, flush=True)
