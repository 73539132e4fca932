"""What an experiment is: cases that run one by one, and the paper's numbers beside which their results stand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reformer.experiments.cells import Line
from reformer.training.config import TrainConfig

SCALES = ("smoke", "laptop", "gpu", "paper")


# Fields that came after the first results, with the value under which they change nothing: those results still count.
_ADDED = {"streams": 2}


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


class Stopped(Exception):
    """A case was interrupted by a signal; what it had finished is saved, and the same command continues it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a case works: the folder of all runs, the prepared corpora, and the command that started it."""

    work: Path
    cache_dir: Path
    command: list[str] = field(default_factory=list)
    resume: bool = True
    """False: a training starts anew, and what an earlier one left is set aside."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a case found: a value for each column, perhaps a curve [[x, y], ...], and what it cost ("steps", "seconds", ...)."""

    columns: Mapping[str, float]
    cost: Mapping[str, Any]
    curve: list[list[float]] | None = None
    protocol: str = ""
    checksums: Mapping[str, str] | None = None
    """The sha256 of each split of the data, where it is not drawn from seeds."""
    trained_by: Sequence[str] = ()
    """The commits that trained what was measured, if it is a training: a resumed one may have several."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of a table, or one curve of a figure, with one seed: the unit that is run, resumed and recorded."""

    row: str
    seed: int
    config: Mapping[str, Any]
    """Everything but the seed that decides the result, as plain values: a result of another config does not count."""
    run: Callable[[Place], Result]
    columns: tuple[str, ...] = ()
    """Which of the experiment's columns it fills; none: all of them."""
    training: TrainConfig | None = None
    """The training of which the case consists, if it is one."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table or figure: ``cases(scale, seed)`` in the order in which they are worth running."""

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
    finding: Callable[[Mapping[str, Line]], list[str]] | None = None
    """What follows from the lines that were run at one scale, a sentence each, in numbers: the report's first page."""
    headline: tuple[str, str] | None = None
    """(line, column) of the value that stands for the experiment in ``reformer reproduce --list``; None: the first."""

    def filled(self, case: Case) -> tuple[str, ...]:
        """The columns for which ``case`` has a value, in the table's order."""
        return tuple(column for column in self.columns if not case.columns or column in case.columns)
