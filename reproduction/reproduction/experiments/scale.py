"""Logit scale: 1, as the authors ran it, against D^-0.5, which was suspected to be why two replications failed.

    reformer reproduce scale --scale laptop

The duplication task of ``table2`` at |w| = 127 with LSH-4. Keys are unit vectors, so D^-0.5 leaves logits of at most
|q| / 8 at head size 64.
Hardware and time for each line and seed. smoke: any CPU, seconds. laptop: two CPU cores, two lines at a time on one thread each,
1 to 4 minutes. There is no larger scale.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reformer.tasks.duplication import duplication
from reproduction.case import Case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line, listed, seeds_of
from reproduction.experiments.training_case import training_case

_SCALES = {"scale 1": 1.0, "scale D^-0.5": 64**-0.5}
_STEPS = {"smoke": 4, "laptop": 600}
_SEQUENCES = {"smoke": 8, "laptop": 256}


def cases(scale: str, seed: int) -> list[Case]:
    """One training for each scale of the logits."""
    base = duplication()
    n_sequences = _SEQUENCES[scale]

    def measure(model: Any, task: Any) -> tuple[dict[str, float], str]:
        result = task.evaluate(model, "test", n_sequences)
        return {"accuracy": 100 * result.extras["accuracy"]}, result.protocol

    return [
        training_case(
            row,
            replace(
                base,
                name=f"scale-{scale}",
                seed=seed,
                steps=_STEPS[scale],
                eval_every=max(1, _STEPS[scale] // 12),
                eval_sequences=min(64, n_sequences),
                model=replace(base.model, attention_scale=value),
            ),
            measure,
            measured={"sequences": n_sequences},
        )
        for row, value in _SCALES.items()
    ]


def finding(lines: Mapping[str, Line]) -> list[str]:
    """What each scale of the logits reaches."""
    return [f"accuracy, % ({seeds_of(lines.values())}): {listed(lines, 'accuracy', 2)}."] if lines else []


EXPERIMENT = Experiment(
    name="scale",
    title="Scale: the logits as the authors had them, and divided by the root of the head size",
    metric="accuracy on the duplication task, %",
    better="higher",
    columns=("accuracy",),
    cases=cases,
    seeds={"smoke": 1, "laptop": 5},
    notes={
        "smoke": "4 steps: shows that everything runs, nothing else",
        "laptop": "|w| = 127, LSH-4, 600 steps of 8 sequences",
    },
    curve=("step", "validation bits per symbol"),
    finding=finding,
    headline=("scale D^-0.5", "accuracy"),
)
