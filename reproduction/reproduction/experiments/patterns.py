"""Whom should a token see? The paper's chunks, whole buckets, and the released checkpoints' pattern, at equal steps.

    reformer reproduce patterns --scale laptop

"bucket" sees at most 64 earlier members of a bucket: about what "paper" sees in its own chunk and the one before.
Hardware and time for each line and seed. smoke: any CPU, seconds. laptop: two CPU cores, two lines at a time on one thread each,
7 to 31 minutes. gpu: one accelerator, half a minute of training on an H200, evaluation not timed. There is no larger scale.
"""

from collections.abc import Mapping
from typing import Any

from reproduction.case import Case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line, difference
from reproduction.experiments.text_models import BITS_BY_STEP, NOTES, text_case, text_config

_LINES: dict[str, dict[str, Any]] = {
    "paper": {"pattern": "paper"},
    "bucket, window 64": {"pattern": "bucket", "lsh_window": 64},
    "trax": {"pattern": "trax"},
}


def cases(scale: str, seed: int) -> list[Case]:
    """One training for each pattern."""
    return [text_case(row, text_config(scale, seed, **changes), scale) for row, changes in _LINES.items()]


def finding(lines: Mapping[str, Line]) -> list[str]:
    """Which pattern is better, beside the paper's."""
    compared = {name: difference(lines, name, "paper", "test") for name in _LINES if name != "paper"}
    return [
        f"{name} less paper is {each.value:+.3f} bits per byte ({each.verdict})."
        for name, each in compared.items()
        if each is not None
    ]


EXPERIMENT = Experiment(
    name="patterns",
    title="Patterns: the paper's chunks, whole buckets, and the released checkpoints' pattern",
    **BITS_BY_STEP,
    cases=cases,
    seeds={"smoke": 1, "laptop": 3, "gpu": 3},
    notes=NOTES,
    finding=finding,
    headline=("bucket, window 64", "test"),
)
