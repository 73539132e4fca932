"""Do LSH layers pay for themselves on text? LSH and local layers beside local layers alone and full attention.

    reformer reproduce baselines --scale laptop

The same model and training; only the kind of the LSH layers changes. "equal time" repeats the two others for as many steps
as fit into the LSH model's time (its factor is fixed below, and the table shows the times). All are reversible, so full
attention keeps no activations either.
Hardware and time for each line and seed. smoke: any CPU, seconds. laptop: two CPU cores, two lines at a time on one thread each,
7 to 28 minutes, the longest with full attention. gpu: one accelerator, half a minute of training on an H200, evaluation not
timed. paper: 8 accelerators in the paper; ``--estimate`` says what it takes here.
"""

from collections.abc import Mapping

from reproduction.case import Case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line, difference
from reproduction.experiments.text_models import BITS_BY_STEP, NOTES, text_case, text_config

# (line, kind of the layers in question, steps relative to the LSH model's). Of equal time: laptop as it was fixed (see the
# note), gpu by steps of 87, 71 and 89 ms on an H200, paper by passes on a CPU (--estimate): 2,320, 2,160 and 4,710 s.
_LINES: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("lsh + local", "lsh", {}),
    ("local only", "local", {}),
    ("full + local", "full", {}),
    ("local only, equal time", "local", {"smoke": 1.0, "laptop": 1.03, "gpu": 1.23, "paper": 1.07}),
    ("full + local, equal time", "full", {"smoke": 1.0, "laptop": 0.52, "gpu": 0.98, "paper": 0.49}),
)


def cases(scale: str, seed: int) -> list[Case]:
    """One training for each line."""
    return [
        text_case(row, text_config(scale, seed, kind=kind, steps=steps.get(scale, 1.0)), scale)
        for row, kind, steps in _LINES
    ]


def finding(lines: Mapping[str, Line]) -> list[str]:
    """Whether LSH layers paid for themselves."""
    found = []
    for other in ("local only", "full + local", "local only, equal time", "full + local, equal time"):
        compared = difference(lines, "lsh + local", other, "test")
        if compared is not None:
            better = "LSH and local layers do better" if compared.value < 0 else f"{other} does better"
            # One seed decides nothing.
            said = f"one seed, {better}" if compared.n_seeds == 1 else f"**{better}**"
            found.append(
                f"{said}: LSH and local layers less {other} is {compared.value:+.3f} bits per byte ({compared.verdict})."
            )
    return found


EXPERIMENT = Experiment(
    name="baselines",
    title="Baselines: LSH attention beside local attention alone and full attention, at equal steps and at equal time",
    **BITS_BY_STEP,
    cases=cases,
    seeds={"smoke": 1, "laptop": 3, "gpu": 3, "paper": 1},
    notes=NOTES
    | {
        "laptop": NOTES["laptop"]
        + '; "equal time": 103 % (local only) and 52 % (full) of the steps, fixed before they ran; equal to the time of the '
        "LSH line would have been 60 % for full attention on the Intel machine, where these rows ran, and 42 % on the AMD one"
    },
    finding=finding,
)
