"""What is measured: a case, which becomes one row."""

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reproduction.rows import Row

# Rounds of shuffled turns are drawn from here.
_ORDER_SEED = 0


class NotRun(Exception):
    """A measurement that was not made; the message is the reason, one line."""


class Stopped(Exception):
    """A case was interrupted by a signal; what it had finished is saved, and the same command continues it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a case works: the folder of all runs, the prepared corpora, and the command that started it."""

    work: Path = Path("runs/reproduce")
    cache_dir: Path = Path("~/.cache/reformer")
    command: list[str] = field(default_factory=list)
    resume: bool = True
    """False: a training starts anew, and what an earlier one left is set aside."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One row to be, of a contender or of a line of a table with one seed: the unit that is run, resumed and recorded."""

    row: str
    config: Mapping[str, Any]
    """Everything but the seed that decides the result, as plain values: a result of another config does not count."""
    run: Callable[[Place], Generator[Row | None]]
    """Yields None where others may take their turn, and in the end what it measured. Raises NotRun if it cannot."""
    seed: int = 0
    columns: tuple[str, ...] = ()
    """Which of an experiment's columns it fills; none: all of them."""
    training: Any = None
    """The config of the training of which the case consists, if it is one."""


def take_turns(cases: Iterable[Case], place: Place) -> Iterator[tuple[Case, Row]]:
    """Each case with what it measured, or {"not_run": reason}, as soon as it is there.

    In every round each case that is not finished takes a turn, in an order drawn anew, so that a slow minute of the machine
    falls on all alike.
    """
    order, waiting = random.Random(_ORDER_SEED), {case: case.run(place) for case in cases}
    while waiting:
        for case in order.sample(list(waiting), len(waiting)):
            try:
                measured = next(waiting[case])
            except NotRun as reason:
                measured = {"not_run": str(reason)}
            if measured is not None:
                # Its process ends before the next case begins.
                waiting.pop(case).close()
                yield case, measured


def alone(case: Case) -> Row:
    """What a case measures that takes all its turns at once. Raises NotRun if it cannot."""
    return next(measured for measured in case.run(Place()) if measured is not None)
