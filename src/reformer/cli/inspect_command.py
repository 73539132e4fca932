"""``reformer inspect RUN``: what the attention of a trained run sees of full attention, as tables, plots and a page."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from reformer.cli.parsing import UsageError, parse
from reformer.cli.runs import ModelOptions, load, say

DATA_FILE = "inspect.json"
PAGE_FILE = "inspect.html"
_PIPED_WIDTH = 1000


@dataclass(frozen=True, kw_only=True)
class InspectOptions(ModelOptions):
    """Look at the attention of a trained run: bucket occupancy, recall of full attention, distances."""

    run: Positional[Path]
    """Folder of a run."""
    split: str = "validation"
    """train, validation or test."""
    n_windows: int = 1
    """How many windows of the split, from its start (duplication: sequences)."""
    window: int | None = None
    """Bytes of a window; default: that of training."""
    queries: int = 1024
    """Queries of a window, evenly spaced; every one is compared with all keys."""
    n_hashes: str | None = None
    """Hash rounds to tell the recall of beside the model's own, separated by commas: 1,2,4,8. Rounds beyond the model's
    are drawn in addition, on the same vectors."""
    seed: int = 0
    """Fixes the hash rotations; 0 are those that eval begins with."""
    out: Path | None = None
    """Folder of the results; default: inspect/ in the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split not in ("train", "validation", "test"):
            raise UsageError(f"unknown split {self.split!r}; splits: train, validation, test")
        for name, least in (("n_windows", 1), ("queries", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(self, name)}")


def run(arguments: Sequence[str]) -> int:
    """Parse, inspect, print the tables and write data, plots and page."""
    options = parse(InspectOptions, arguments, prog="reformer inspect")
    about, rows = inspect_run(options)
    out = options.run.expanduser() / "inspect" if options.out is None else options.out.expanduser()
    files = _write(out, {**about, "command": " ".join(["reformer", "inspect", *arguments])}, rows)
    _show(about, rows, files)
    return 0


def inspect_run(options: InspectOptions) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what was inspected, rows of ``reformer.inspection.inspect_model``)."""
    from reformer.inspection import inspect_model
    from reformer.tasks.language_model import positive_numbers
    from reformer.training.run_directory import open_run

    rounds = positive_numbers("--n-hashes", options.n_hashes)
    run_ = open_run(options.run.expanduser())
    config = run_.config if options.window is None else replace(run_.config, seq_len=options.window)
    task = config.make_task(options.cache_dir.expanduser(), run_.corpus_directory)
    windows = list(task.held_out(options.split, options.n_windows))
    if rounds and "lsh" not in config.model.attention:
        raise UsageError(f"--n-hashes is about LSH layers, and {run_.directory} has none; leave it out")
    model, step, _ = load(run_, options)
    rows = inspect_model(model, _announced(windows), seed=options.seed, n_queries=options.queries, rounds=rounds)
    about = {
        "run": str(run_.directory),
        "step": step,
        "attention": " ".join(config.model.attention),
        "split": options.split,
        "windows": [len(window) for window in windows],
        "queries": rows[0]["queries"],
        "seed": options.seed,
    }
    return about, rows


def _announced(windows: list[Any]) -> Iterator[Any]:
    for number, window in enumerate(windows, 1):
        say(f"window {number} of {len(windows)}, {len(window):,} tokens")
        yield window


def _write(out: Path, about: dict[str, Any], rows: list[dict[str, Any]]) -> list[Path]:
    """Data, plots and page in ``out``; the files written."""
    from reformer.inspection.page import html_page
    from reformer.inspection.plots import draw
    from reformer.inspection.tables import tables
    from reformer.training.checkpoint import write_durably

    pictures = draw(rows, out)
    write_durably(out / DATA_FILE, (json.dumps({"about": about, "rows": rows}, indent=1) + "\n").encode())
    write_durably(out / PAGE_FILE, html_page(about, tables(rows), pictures).encode())
    return [out / PAGE_FILE, out / DATA_FILE, *pictures]


def _show(about: dict[str, Any], rows: list[dict[str, Any]], files: list[Path]) -> None:
    from reformer.inspection.tables import tables

    lengths = ", ".join(f"{length:,}" for length in dict.fromkeys(about["windows"]))
    print(
        f"{about['run']}, step {about['step']}: {len(about['windows'])} {about['split']} window(s) of {lengths} tokens"
    )
    print(f"{about['queries']:,} queries, each against all keys; seed {about['seed']}")
    for title, table in tables(rows).items():
        print_table(title, table)
    print(f"\nopen {files[0]}; kept beside it: {', '.join(path.name for path in files[1:])}")


def print_table(title: str, table: list[dict[str, str]]) -> None:
    """Print the lines of ``table`` under ``title``, aligned; bold and within the window on a terminal, plain elsewhere."""
    names = [name for name in table[0] if any(line[name] for line in table)]
    shown = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in names:
        shown.add_column(name, justify="left" if name == names[0] else "right", no_wrap=True)
    for line in table:
        shown.add_row(*(line[name] for name in names))
    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    console.print()
    console.print(shown)
