"""Figure 4: bits per dim of pictures by the number of hash rounds, beside full attention.

    reformer reproduce figure4 --scale laptop

Three LSH layers and nothing else, at equal steps. In the paper eight rounds come close to full attention.
Expected on two CPU cores, two lines at a time on one thread each: 5 to 12 minutes a line and seed,
growing with the rounds.
"""

from __future__ import annotations

from collections.abc import Mapping

from reformer.experiments.cells import Line, seeds_of
from reformer.experiments.experiment import Case, Experiment
from reformer.experiments.image_models import NOTES, image_case, image_config

_ROUNDS = (1, 2, 4, 8, 16)
_COLUMN = "validation"
_FULL = "full attention"


def cases(scale: str, seed: int) -> list[Case]:
    """Full attention, then each number of rounds."""
    return [image_case(_FULL, image_config(scale, seed, kind="full"), scale, _COLUMN)] + [
        image_case(
            _name(rounds),
            image_config(scale, seed, kind="lsh", n_hashes=rounds),
            scale,
            _COLUMN,
        )
        for rounds in _ROUNDS
    ]


def _name(rounds: int) -> str:
    return f"{rounds} round{'s' * (rounds > 1)}"


def finding(lines: Mapping[str, Line]) -> list[str]:
    """How many percent each number of rounds ends above full attention."""
    cells = {name: line.cell(_COLUMN) for name, line in lines.items()}
    full = cells.get(_FULL)
    if full is None:
        return []
    rounds = {name: cell for name in map(_name, _ROUNDS) if (cell := cells.get(name)) is not None}
    shares = [f"{name} {100 * (cell.mean / full.mean - 1):+.2f}%" for name, cell in rounds.items()]
    return (
        [f"bits per dim beside full attention's ({seeds_of(lines.values())}): {', '.join(shares)}."] if shares else []
    )


EXPERIMENT = Experiment(
    name="figure4",
    title="Figure 4: hash rounds beside full attention, on pictures",
    metric="bits per dim, validation split",
    better="lower",
    columns=(_COLUMN,),
    cases=cases,
    seeds={"smoke": 1, "laptop": 2, "gpu": 1, "paper": 1},
    notes=NOTES,
    digits=3,
    curve=("step", "validation bits per dim"),
    finding=finding,
    headline=("8 rounds", _COLUMN),
)
