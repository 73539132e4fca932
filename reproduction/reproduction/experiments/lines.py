"""What an experiment measured: the rows of each line, one for each seed, and their cells."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from reproduction.rows import Row


class Cell(NamedTuple):
    """Values of one line and column, one for each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def variance(self) -> float:
        """Of the sample, which has two values or more; of a value that is no number, not a number either."""
        return sum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1)

    def text(self, digits: int) -> str:
        """ "mean ± sample standard deviation", or the mean alone for a single seed."""
        spread = f" ± {math.sqrt(self.variance):.{digits}f}" if len(self.values) > 1 else ""
        return f"{self.mean:.{digits}f}{spread}"


@dataclass(frozen=True)
class Line:
    """The rows of one line at one scale, one for each seed."""

    name: str
    scale: str
    rows: tuple[Row, ...]

    def cell(self, column: str) -> Cell | None:
        """The values of ``column``; None where there are none."""
        values = tuple(self.by_seed(column).values())
        return Cell(values) if values else None

    def by_seed(self, column: str) -> dict[int, float]:
        """The value of ``column`` for each seed that has one."""
        return {row["seed"]: row["columns"][column] for row in self.rows if column in row["columns"]}

    def mean_cost(self, name: str) -> float | None:
        """The mean over the seeds of a cost; None where it was not kept."""
        values = [row["cost"][name] for row in self.rows if name in row["cost"]]
        return fmean(values) if values else None

    def on(self, hardware: str) -> "Line":
        """Its rows that were measured on this ``machine``."""
        return Line(self.name, self.scale, tuple(row for row in self.rows if machine(row) == hardware))


def machine(row: Row) -> str:
    """What a row was measured on."""
    hardware = row["hardware"]
    threads = hardware["torch_threads"]
    return ", ".join(hardware["gpus"]) or f"{hardware['cpu']}, {threads} thread{'s' * (threads != 1)}"


class Difference(NamedTuple):
    """How far the mean of one cell is from that of another over the seeds that both have, and what that is worth in words."""

    value: float
    n_seeds: int
    verdict: str


def seeds_of(lines: Iterable[Line]) -> str:
    """How many seeds these lines have: "one seed", "3 seeds" or "1 to 3 seeds"; one says nothing of the spread."""
    counts = sorted({len(line.rows) for line in lines})
    many = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return "one seed" if many == "1" else f"{many} seeds"


def listed(lines: Mapping[str, Line], column: str, digits: int) -> str:
    """ "name value, name value" of the lines that have ``column``."""
    cells = {name: line.cell(column) for name, line in lines.items()}
    return ", ".join(f"{name} {cell.text(digits)}" for name, cell in cells.items() if cell is not None)


def difference(lines: Mapping[str, Line], name: str, from_name: str, column: str) -> Difference | None:
    """``column`` of line ``name`` less that of line ``from_name``, of the seeds that both have; None without any.

    The spread that it is measured by is the root of the mean variance of the two. What the rows of a seed share (data, order)
    drops out of the difference seed by seed.
    """
    ones, others = (lines[each].by_seed(column) if each in lines else {} for each in (name, from_name))
    shared = sorted(ones.keys() & others.keys())
    if not shared:
        return None
    one, other = (Cell(tuple(values[seed] for seed in shared)) for values in (ones, others))
    value = one.mean - other.mean
    if len(shared) == 1:
        return Difference(value, 1, "one seed: no spread to compare with")
    spread = math.sqrt(fmean((one.variance, other.variance)))
    side = "within" if abs(value) <= spread else "beyond"
    each = ", ".join(f"{ones[seed] - others[seed]:+.3f}" for seed in shared)
    return Difference(value, len(shared), f"{side} the seed-to-seed spread of {spread:.3f}; seed by seed {each}")
