"""Recall: what a last layer of local, LSH or full attention finds again, by distance; where LSH must earn its keep.

    reformer reproduce recall --scale laptop

Facts (``reformer.data.recall``) are stated and asked for again, between them noise or the text of enwik8 ("needle in text");
accuracy is that of the values asked for, columns are distances between statement and question. A guess is right in 1.6%.
Two layers: the first is local in every line, the second is of the kind that the line names, LSH and full ones without
positions. Rows are short at first and grow until half-time: at full length from the start nothing was learned in 300 steps
(docs/log.md).
Hardware and time for each line and seed. smoke: any CPU, seconds. laptop: two CPU cores, two lines at a time on one thread each,
3 to 9 minutes. gpu: one accelerator, 1,000 steps of 0.02 seconds (H200), evaluation not timed. There is no larger scale.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reformer.tasks.recall import RecallConfig, recall
from reproduction.case import Case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line, listed, seeds_of
from reproduction.experiments.training_case import training_case

_KINDS = {"local + LSH-4": "lsh", "local only": "local", "local + full": "full"}
_FILLERS = {"noise": "synthetic", "text": "enwik8"}
_SHAPES: dict[str, dict[str, Any]] = {
    "smoke": {"seq_len": 128, "batch_size": 2, "steps": 3},
    "laptop": {"seq_len": 2048, "batch_size": 4, "steps": 400},
    "gpu": {"seq_len": 16_384, "batch_size": 4, "steps": 1000, "autocast": "bfloat16"},
}
_SEQUENCES = {"smoke": 4, "laptop": 64, "gpu": 64}
_EDGES = {"smoke": (64, 128), "laptop": (128, 512, 2048), "gpu": (128, 1024, 4096, 16_384)}


def _config(kind: str, filler: str, scale: str, seed: int) -> RecallConfig:
    base = recall()
    data = "stdlib" if scale == "smoke" and filler == "text" else _FILLERS[filler]
    shape = _SHAPES[scale]
    return replace(
        base,
        name=f"recall-{scale}",
        data=data,
        seed=seed,
        eval_every=max(1, shape["steps"] // 6),
        eval_sequences=_SEQUENCES[scale],
        model=replace(base.model, attention=("local", kind)),
        **shape,
    )


def _ranges(scale: str) -> list[tuple[str, int, int]]:
    edges = _EDGES[scale]
    return [(f"to {high:,}", low + 1, high) for low, high in zip((0, *edges), edges)]


def cases(scale: str, seed: int) -> list[Case]:
    """Each kind of last layer, in noise and in text."""

    def measure(model: Any, task: Any) -> tuple[dict[str, float], str]:
        columns, protocol = {}, ""
        for column, nearest, farthest in _ranges(scale):
            result = task.evaluate(model, "test", _SEQUENCES[scale], nearest, farthest)
            columns[column], protocol = 100 * result.extras["accuracy"], result.protocol
        return columns, protocol

    measured = {"sequences": _SEQUENCES[scale], "edges": _EDGES[scale]}
    columns = tuple(column for column, _, _ in _ranges(scale))
    return [
        training_case(
            f"{filler}: {row}", _config(kind, filler, scale, seed), measure, measured=measured, columns=columns
        )
        for filler in _FILLERS
        for row, kind in _KINDS.items()
    ]


def finding(lines: Mapping[str, Line]) -> list[str]:
    """What each last layer finds at the greatest distance of its scale."""
    found = []
    for filler in _FILLERS:
        here = {kind: lines[f"{filler}: {kind}"] for kind in _KINDS if f"{filler}: {kind}" in lines}
        if here:
            *_, (column, _, _) = _ranges(next(iter(here.values())).scale)
            values = listed(here, column, 1)
            found.append(f"in {filler}, distances {column} tokens, % found ({seeds_of(here.values())}): {values}.")
    return found


EXPERIMENT = Experiment(
    name="recall",
    title="Recall: facts found again in noise and in text, by the distance at which they were stated (columns, in tokens)",
    metric="accuracy of the values asked for, %",
    better="higher",
    columns=tuple(dict.fromkeys(column for scale in _EDGES for column, _, _ in _ranges(scale))),
    cases=cases,
    seeds={"smoke": 1, "laptop": 3, "gpu": 3},
    notes={
        "smoke": "128 tokens, 3 steps: shows that everything runs, nothing else",
        "laptop": "2,048 tokens with 64 facts, two layers of d_model 128, 400 steps of 4 (and more, shorter ones until half-time)",
        "gpu": "16,384 tokens with 64 facts, two layers of d_model 128, 1,000 steps of 4",
    },
    curve=("step", "validation bits per value"),
    finding=finding,
    headline=("text: local + LSH-4", "to 2,048"),
)
