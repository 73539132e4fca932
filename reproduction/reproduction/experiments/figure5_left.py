"""Figure 5, left: depth on enwik8.

    reformer reproduce figure5-left --scale laptop

The paper trains 3, 6, 12 and 20 layers, and reports 1.19 bits per byte on test for 12 layers after 20,000 steps (1.05 after
tuning and longer training). Lines are depths; the training is otherwise that of ``baselines``.
Hardware and time for each line and seed. smoke: any CPU, seconds. laptop: two CPU cores, two lines at a time on one thread each,
6 to 23 minutes by depth. gpu: one accelerator, slices under ten minutes that resume; not timed. paper: 8 accelerators in the
paper; ``--estimate`` says what it takes here.
"""

from collections.abc import Mapping
from dataclasses import replace

from reproduction.case import Case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line, listed, seeds_of
from reproduction.experiments.text_models import BITS_BY_STEP, LAYERS, NOTES, text_case, text_config

_DEPTHS = {"smoke": (2, 4), "laptop": (3, 6, 12), "gpu": (3, 6, 12, 20), "paper": (3, 6, 12, 20)}


def cases(scale: str, seed: int) -> list[Case]:
    """One training for each depth."""
    cases = []
    for depth in _DEPTHS[scale]:
        base = text_config(scale, seed)
        pattern = LAYERS[scale] if scale != "paper" else ("lsh",)
        layers = tuple(pattern[index % len(pattern)] for index in range(depth))
        config = replace(base, model=replace(base.model, attention=layers))
        cases.append(text_case(f"{depth} layers", config, scale))
    return cases


def finding(lines: Mapping[str, Line]) -> list[str]:
    """What each depth reaches."""
    return [f"bits per byte ({seeds_of(lines.values())}): {listed(lines, 'test', 3)}."] if lines else []


EXPERIMENT = Experiment(
    name="figure5-left",
    title="Figure 5, left: bits per byte by depth",
    **BITS_BY_STEP,
    cases=cases,
    seeds={"smoke": 1, "laptop": 1, "gpu": 1, "paper": 1},
    paper={("12 layers", "test"): 1.19},
    notes={
        "smoke": NOTES["smoke"],
        "laptop": "enwik8, 3, 6 and 12 layers of d_model 192, the third of every four LSH and the others local (so that 3, 6 "
        "and 12 layers hold 1, 1 and 3 LSH layers), windows of 8,192 bytes, 240 steps (2.0 MB); the paper: LSH layers, and 1.05 "
        "for 12 after tuning and longer training; 20 layers are run at larger scales",
        "gpu": "enwik8, 3, 6, 12 and 20 layers of d_model 512, every third LSH and the others local, windows of 16,384 bytes, 350 "
        "steps of 4 (23 MB)",
        "paper": "the paper's: LSH layers of d_model 1,024, windows of 65,536 bytes, 20,000 steps of 8",
    },
    finding=finding,
    headline=("12 layers", "test"),
)
