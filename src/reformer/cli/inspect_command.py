"""``reformer inspect RUN``: what the attention of a trained run sees of full attention, as tables, plots and a page."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from reformer.cli.parsing import UsageError, check_checkpoint, check_split, parse, positive_numbers, require_at_least

DATA_FILE = "inspect.json"
PAGE_FILE = "inspect.html"


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
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
    checkpoint: str = "latest"
    """latest or best."""
    seed: int = 0
    """Fixes the hash rotations; 0 are those that eval begins with."""
    out: Path | None = None
    """Folder of the results; default: inspect/ in the run."""
    cache_dir: Path = Path("~/.cache/reformer")


def run(arguments: Sequence[str]) -> int:
    """Parse, inspect, print the tables and write data, plots and page."""
    options = parse(InspectOptions, arguments, prog="reformer inspect")
    check_split(options.split)
    check_checkpoint(options.checkpoint)
    require_at_least(1, n_windows=options.n_windows, queries=options.queries)
    require_at_least(0, seed=options.seed)
    about, rows = inspect_run(options)
    out = options.run.expanduser() / "inspect" if options.out is None else options.out.expanduser()
    files = _write(out, {**about, "command": " ".join(["reformer", "inspect", *arguments])}, rows)
    _show(about, rows, files)
    return 0


def inspect_run(options: InspectOptions) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what was inspected, rows of ``reformer.inspection.inspect_model``)."""
    import dataclasses

    from reformer.inspection import inspect_model
    from reformer.training.run_directory import load_trained

    directory, rounds = options.run.expanduser(), positive_numbers("--n-hashes", options.n_hashes)
    run_, model, step = load_trained(directory, options.checkpoint, lambda line: print(line, file=sys.stderr))
    if rounds and "lsh" not in run_.config.model.attention:
        raise UsageError(f"--n-hashes is about LSH layers, and {directory} has none; leave it out")
    config = run_.config if options.window is None else dataclasses.replace(run_.config, seq_len=options.window)
    task = config.make_task(options.cache_dir.expanduser(), run_.corpus_directory)
    windows = list(task.held_out(options.split, options.n_windows))
    rows = inspect_model(model, _announced(windows), seed=options.seed, n_queries=options.queries, rounds=rounds)
    about = {
        "run": str(directory),
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
        print(f"window {number} of {len(windows)}, {len(window):,} tokens", file=sys.stderr, flush=True)
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
    from reformer.cli.tables import print_table
    from reformer.inspection.tables import tables

    lengths = ", ".join(f"{length:,}" for length in dict.fromkeys(about["windows"]))
    print(
        f"{about['run']}, step {about['step']}: {len(about['windows'])} {about['split']} window(s) of {lengths} tokens"
    )
    print(f"{about['queries']:,} queries, each against all keys; seed {about['seed']}")
    for title, table in tables(rows).items():
        print_table(title, table)
    print(f"\nopen {files[0]}; kept beside it: {', '.join(path.name for path in files[1:])}")
