"""Figure 4: bits per dim of pictures by the number of hash rounds, beside full attention.

    reformer reproduce figure4 --scale laptop

Three LSH layers and nothing else, at equal steps. In the paper eight rounds come close to full attention.
Expected on two CPU cores: two to eight minutes a line and seed, growing with the rounds.
"""

from __future__ import annotations

from reformer.experiments.experiment import Case, Experiment
from reformer.experiments.image_models import NOTES, image_case, image_config

_ROUNDS = (1, 2, 4, 8, 16)
_COLUMN = "test"


def cases(scale: str, seed: int) -> list[Case]:
    """Full attention, then each number of rounds."""
    return [image_case("full attention", image_config(scale, seed, kind="full"), scale, _COLUMN)] + [
        image_case(
            f"{rounds} round{'s' * (rounds > 1)}",
            image_config(scale, seed, kind="lsh", n_hashes=rounds),
            scale,
            _COLUMN,
        )
        for rounds in _ROUNDS
    ]


EXPERIMENT = Experiment(
    name="figure4",
    title="Figure 4: hash rounds beside full attention, on pictures",
    metric="bits per dim, test split",
    better="lower",
    columns=(_COLUMN,),
    cases=cases,
    seeds={"smoke": 1, "laptop": 2, "gpu": 1, "paper": 1},
    notes=NOTES,
    digits=3,
    curve=("step", "validation bits per dim"),
    headline=("8 rounds", _COLUMN),
)
