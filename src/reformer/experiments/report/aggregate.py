"""From rows to lines: those of the experiment's own configs, with all their seeds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reformer.experiments.cells import Line
from reformer.experiments.experiment import Experiment, short_id
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

    Rows of a config that the experiment no longer has do not count: beside its notes they would say what is not so. Of each
    seed the newest row counts.
    """
    current = {case.row: short_id(case.config) for case in experiment.cases(scale, 0)}
    found: dict[str, dict[int, Row]] = {name: {} for name in current}
    for row in rows:
        is_ours = row.get("experiment") == experiment.name and row["scale"] == scale
        if is_ours and current.get(row["row"]) == row["config_id"]:
            found[row["row"]][row["seed"]] = row
    return [Line(name, scale, tuple(row for _, row in sorted(seeds.items()))) for name, seeds in found.items() if seeds]
