"""From rows to cells: the newest config of each line, all its seeds, mean and standard deviation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

from reformer.experiments.experiment import Experiment
from reformer.training.rows import Row


@dataclass(frozen=True)
class Cell:
    """Values of one line and column, one for each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over the seeds; None for a single one."""
        return stdev(self.values) if len(self.values) > 1 else None

    def text(self, digits: int) -> str:
        """ "mean ± sd", or the mean alone for a single seed."""
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


@dataclass(frozen=True)
class Line:
    """The rows of one line at one scale, one for each seed."""

    name: str
    scale: str
    rows: tuple[Row, ...]

    def cell(self, column: str) -> Cell | None:
        """The values of ``column``; None where there are none."""
        values = tuple(row["columns"][column] for row in self.rows if column in row["columns"])
        return Cell(values) if values else None

    def mean_cost(self, name: str) -> float | None:
        """The mean over the seeds of a cost; None where it was not kept."""
        values = [row["cost"][name] for row in self.rows if name in row["cost"]]
        return fmean(values) if values else None


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
