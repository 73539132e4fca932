"""From which length on one contender is faster than another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """``length``: interpolated; ``below`` and ``above``: the measured neighbours (None: there is none)."""

    length: float | None
    below: int | None
    above: int | None

    def __str__(self) -> str:
        if self.above is None:
            return f"not up to {self.below:,} tokens, the longest measured"
        if self.below is None:
            return f"from {self.above:,} tokens, the shortest measured, or earlier"
        assert self.length is not None
        return f"about {self.length:,.0f} tokens (slower at {self.below:,}, faster at {self.above:,}; interpolated)"


def crossover(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Crossover | None:
    """The least measured length from which on ``ours`` (seconds by length) stays below ``theirs``.

    Between the neighbours the logarithm of the ratio is taken as linear in that of the length. None: no length in common.
    """
    lengths = sorted(set(ours) & set(theirs))
    if not lengths:
        return None
    slower = [length for length in lengths if ours[length] >= theirs[length]]
    if not slower:
        return Crossover(length=None, below=None, above=lengths[0])
    below = slower[-1]
    if below == lengths[-1]:
        return Crossover(length=None, below=below, above=None)
    above = lengths[lengths.index(below) + 1]
    at_below, at_above = (math.log(ours[length] / theirs[length]) for length in (below, above))
    share = at_below / (at_below - at_above)
    return Crossover(length=below * (above / below) ** share, below=below, above=above)
