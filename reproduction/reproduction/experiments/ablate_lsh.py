"""What do the LSH layers of a trained model carry? Their output is set to zero, and so is that of the local layers.

    reformer reproduce ablate-lsh --scale laptop

Columns: as trained; attention of the LSH layers zeroed; one local layer zeroed (the one before the first LSH layer); LSH
layers made full attention. The training is that of ``baselines``' first line and is shared with it.
Hardware and time a seed. smoke: any CPU, seconds. laptop: two CPU cores, 7 to 20 minutes, or those of evaluation alone after
``baselines``. gpu: one accelerator, half a minute of training on an H200, evaluation not timed. paper: 8 accelerators in
the paper; ``--estimate`` says what it takes here.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from reformer.layers import SelfAttention
from reformer.models import ReformerLM
from reproduction.case import Case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line, seeds_of
from reproduction.experiments.text_models import BITS, NOTES, TEST_BYTES, held_out_bits, text_config
from reproduction.experiments.training_case import training_case

_COLUMNS = ("as trained", "LSH zeroed", "a local layer zeroed", "LSH made full")


def without(model: ReformerLM, layers: set[int]) -> ReformerLM:
    """A copy of ``model`` in which the attention of ``layers`` adds nothing to the stream."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for index, layer in enumerate(changed.stack.layers):
            if index in layers:
                attention = layer.attention.inner
                assert isinstance(attention, SelfAttention)
                attention.to_out.weight.zero_()
    return changed


def cases(scale: str, seed: int) -> list[Case]:
    """One training, measured four times."""

    def measure(model: Any, task: Any) -> tuple[dict[str, float], str]:
        kinds = model.config.attention
        lsh = {index for index, kind in enumerate(kinds) if kind == "lsh"}
        before = {min(lsh) - 1}
        models = (model, without(model, lsh), without(model, before))
        values = [held_out_bits(scale, each, task) for each in models] + [held_out_bits(scale, model, task, "full")]
        return dict(zip(_COLUMNS, (value for value, _ in values))), values[0][1]

    measured = {"test bytes": TEST_BYTES[scale], "columns": _COLUMNS}
    return [training_case("lsh + local", text_config(scale, seed), measure, measured=measured)]


def finding(lines: Mapping[str, Line]) -> list[str]:
    """What each removal costs."""
    found = []
    for line in lines.values():
        trained = line.cell(_COLUMNS[0])
        costs = {column: line.cell(column) for column in _COLUMNS[1:]}
        if trained is not None:
            each = (f"{column} {cell.mean - trained.mean:+.3f}" for column, cell in costs.items() if cell is not None)
            found.append(f"bits per byte beside the model as trained ({seeds_of([line])}): {', '.join(each)}.")
    return found


EXPERIMENT = Experiment(
    name="ablate-lsh",
    title="Ablation: what the LSH layers of a trained model carry",
    **BITS,
    columns=_COLUMNS,
    cases=cases,
    seeds={"smoke": 1, "laptop": 3, "gpu": 3, "paper": 1},
    notes=NOTES,
    finding=finding,
    headline=("lsh + local", "LSH zeroed"),
)
