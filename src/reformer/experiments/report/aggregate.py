"""From rows to lines: the newest config of each, with all its seeds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reformer.experiments.cells import Line
from reformer.experiments.experiment import Experiment
from reformer.training.rows import Row, read_rows

_EVERY = ("scale", "row", "config_id", "date", "code", "hardware")
_WANTED = {
    "experiment": (*_EVERY, "seed", "columns", "cost", "protocol"),
    "estimate": (*_EVERY, "pass_id", "passes", "seconds_per_pass", "total_seconds", "peak_memory_bytes", "command"),
}


def read_results(folder: Path) -> list[Row]:
    """The rows of experiments and estimates in ``folder``. Raises ValueError for one that lacks a field."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for row in read_rows(path):
            for kind in (name for name in _WANTED if name in row):
                if missing := [name for name in _WANTED[kind] if name not in row]:
                    raise ValueError(
                        f"{path}: a row of {kind} {row[kind]!r} has no {', '.join(missing)}; mend or remove it"
                    )
                found.append(row)
    return found


def lines(experiment: Experiment, rows: Iterable[Row], scale: str) -> list[Line]:
    """The lines of ``experiment`` that were run at ``scale``, in the experiment's order.

    Of each line only rows of its newest config count, and of each seed only the newest.
    """
    found: dict[str, dict[str, dict[int, Row]]] = {}
    newest: dict[str, str] = {}
    for row in rows:
        if row.get("experiment") == experiment.name and row["scale"] == scale:
            found.setdefault(row["row"], {}).setdefault(row["config_id"], {})[row["seed"]] = row
            newest[row["row"]] = row["config_id"]
    order = [case.row for case in experiment.cases(scale, 0)]
    names = sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))
    return [Line(name, scale, tuple(row for _, row in sorted(found[name][newest[name]].items()))) for name in names]
