"""What an experiment is: cases that run one by one, and the paper's numbers beside which their results stand."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reproduction.case import Case
from reproduction.experiments.lines import Line
from reproduction.rows import Row

SCALES = ("smoke", "laptop", "gpu", "paper")
# Fields that came after the first results, with the value under which they change nothing: those results still count.
_ADDED = {"streams": 2}
TOY_SIZES = "toy sizes: shows that everything runs, nothing else"


def short_id(config: Mapping[str, Any]) -> str:
    """A short name for a config of plain values: another config has another."""
    text = json.dumps(_without_added(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _without_added(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_added(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if not (name in _ADDED and value == _ADDED[name])
    }


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table or figure: ``cases(scale, seed)`` in the order in which they are worth running.

    What a case measures is "columns" (a value for each), "cost" ("steps", "seconds", ..), "protocol", and perhaps a "curve"
    [[x, y], ..], "checksums" (the sha256 of each split of data not drawn from seeds) and "trained_by" (the commits that trained
    what was measured: a resumed training may have several).
    """

    name: str
    title: str
    metric: str
    """What the columns hold, with its unit."""
    better: str
    """"higher" or "lower": which values are better; "" where neither is."""
    columns: tuple[str, ...]
    cases: Callable[[str, int], list[Case]]
    seeds: Mapping[str, int]
    """How many seeds each scale runs, unless told otherwise; only scales named here exist."""
    paper: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """The paper's value of (row, column), where it has one."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """For each scale a line that says how it differs from the paper's setting, and what it costs."""
    digits: int = 2
    curve: tuple[str, str] | None = None
    """Labels of the curve's axes, if cases return one."""
    log_axes: str = ""
    """The curve's logarithmic axes: "", "x" or "xy"."""
    finding: Callable[[Mapping[str, Line]], list[str]] = lambda lines: []
    """What follows from the lines that were run at one scale, a sentence each, in numbers: the report's first page."""
    headline: tuple[str, str] | None = None
    """(line, column) of the value that stands for the experiment in ``reformer reproduce --list``; None: the first."""

    def filled(self, case: Case) -> tuple[str, ...]:
        """The columns for which ``case`` has a value, in the table's order."""
        return tuple(column for column in self.columns if not case.columns or column in case.columns)

    def current(self, scale: str) -> dict[str, str]:
        """The id of each line's config: rows of another one do not count."""
        return {case.row: short_id(case.config) for case in self.cases(scale, 0)}

    def what(self, scale: str, case: Case) -> Row:
        """The fields by which the row of ``case`` is known."""
        config_id = short_id(case.config)
        return {"experiment": self.name, "scale": scale, "row": case.row, "seed": case.seed, "config_id": config_id}
