"""What an experiment measured: the rows of each line, one for each seed, and their cells."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from reproduction.rows import Row


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
        return math.sqrt(self.variance) if len(self.values) > 1 else None

    @property
    def variance(self) -> float:
        """Of the sample, which has two values or more; of a value that is no number, not a number either."""
        return sum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1)

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
        values = tuple(self.by_seed(column).values())
        return Cell(values) if values else None

    def by_seed(self, column: str) -> dict[int, float]:
        """The value of ``column`` for each seed that has one."""
        return {row["seed"]: row["columns"][column] for row in self.rows if column in row["columns"]}

    def mean_cost(self, name: str) -> float | None:
        """The mean over the seeds of a cost; None where it was not kept."""
        values = [row["cost"][name] for row in self.rows if name in row["cost"]]
        return fmean(values) if values else None


@dataclass(frozen=True)
class Difference:
    """How far the mean of one cell is from that of another over the seeds both have, and the spread it is measured by."""

    value: float
    spread: float | None
    """Root of the mean variance of the two over their seeds; None where they share a single seed."""
    by_seed: tuple[float, ...]
    """The same difference for each of those seeds: what the rows of a seed share (data, order) drops out."""

    def verdict(self) -> str:
        """ "within" or "beyond the seed-to-seed spread of ...", or that one seed says nothing of it."""
        if self.spread is None:
            return "one seed: no spread to compare with"
        side = "within" if abs(self.value) <= self.spread else "beyond"
        each = ", ".join(f"{value:+.3f}" for value in self.by_seed)
        return f"{side} the seed-to-seed spread of {self.spread:.3f}; seed by seed {each}"


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
    """``column`` of line ``name`` less that of line ``from_name``, of the seeds that both have; None without any."""
    ones, others = (lines[each].by_seed(column) if each in lines else {} for each in (name, from_name))
    shared = sorted(ones.keys() & others.keys())
    if not shared:
        return None
    one, other = (Cell(tuple(values[seed] for seed in shared)) for values in (ones, others))
    spread = math.sqrt(fmean((one.variance, other.variance))) if len(shared) > 1 else None
    return Difference(one.mean - other.mean, spread, tuple(ones[seed] - others[seed] for seed in shared))
