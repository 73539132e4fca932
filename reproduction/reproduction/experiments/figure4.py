"""Figure 4: bits per dim of pictures by the number of hash rounds, beside full attention.

    reformer reproduce figure4 --scale laptop

Three LSH layers and nothing else, at equal steps. In the paper eight rounds come close to full attention.
Hardware and time for each line and seed. smoke: any CPU, seconds. laptop: two CPU cores, two lines at a time on one thread each,
7 to 21 minutes, growing with the rounds. gpu: one accelerator, slices under ten minutes that resume (a step of 8 rounds 0.12
seconds on an H200). paper: 8 accelerators in the paper; ``--estimate`` says what it takes here.
"""

from collections.abc import Mapping
from statistics import fmean

from reproduction.case import Case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.image_models import NOTES, image_case, image_config
from reproduction.experiments.lines import Line

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
    """How many percent each number of rounds ends above full attention, over the seeds that both have."""
    if _FULL not in lines:
        return []
    full = lines[_FULL].by_seed(_COLUMN)
    shares = []
    for name in (name for name in map(_name, _ROUNDS) if name in lines):
        ours = lines[name].by_seed(_COLUMN)
        above = [100 * (ours[seed] / full[seed] - 1) for seed in sorted(ours.keys() & full.keys())]
        if above:
            each = "seed by seed " + ", ".join(f"{value:+.2f}" for value in above) if len(above) > 1 else "one seed"
            shares.append(f"{name} {fmean(above):+.2f}% ({each})")
    return [f"bits per dim beside full attention's of the same seed: {', '.join(shares)}."] if shares else []


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
