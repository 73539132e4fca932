"""``reformer images RUN --out GRID.png``: pictures of a run trained on pictures, drawn or completed, as one PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from reformer.cli.parsing import UsageError, parse
from reformer.cli.runs import ModelOptions, load, progress
from reformer.tasks.images import DrawOptions


@dataclass(frozen=True, kw_only=True)
class ImagesOptions(ModelOptions, DrawOptions):
    """Draw pictures with a trained run, or complete some."""

    run: Positional[Path]
    """Folder of a run."""
    out: Path = Path("pictures.png")
    """The PNG file to write."""

    def __post_init__(self) -> None:
        ModelOptions.__post_init__(self)
        DrawOptions.__post_init__(self)
        folder = self.out.expanduser().absolute().parent
        if not folder.is_dir():
            raise UsageError(f"--out: there is no folder {folder}")


def run(arguments: Sequence[str]) -> int:
    """Parse, load, draw, write the grid and say what it is."""
    from reformer.data.images import picture_grid, write_png
    from reformer.training.run_directory import open_run

    options = parse(ImagesOptions, arguments, prog="reformer images")
    run_ = open_run(options.run.expanduser())
    model, _, weights = load(run_, options)
    pictures = run_.config.draw(
        model, options, options.cache_dir.expanduser(), run_.corpus_directory, progress("bytes of each picture")
    )
    out = options.out.expanduser()
    write_png(out, picture_grid(pictures))
    rows, columns, size = pictures.shape[:3]
    what = "pictures" if options.complete is None else "picture, what was seen of it, completion"
    print(f"{out}: {rows} x {columns} of {size}x{size} pixels ({what}); {weights}")
    return 0
