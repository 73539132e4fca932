"""Table 2: the duplication task 0w0w, trained under one attention and evaluated under another.

    reformer reproduce table2 --scale laptop

The paper's own size at every scale but smoke: |w| = 511, L = 1,024, one layer, d_model = d_ff = 256, 4 heads. Not in the
paper: chunks of 64 (32 buckets), batch 4, AdamW 1e-3 with weight decay 3 (lsh-1: 1), 200 steps of warm-up and half a cosine down,
learned absolute positions, rotations drawn afresh each step, logit scale 1. The paper trained 150,000 steps.
The weight decay stands in for many steps: whom a query looks for is a matter of its position alone, and what the token adds
to it only makes equal vectors fall into different buckets; once the loss is small nothing else removes it (docs/log.md).
Two more columns are full attention of the same weights as another function, since the paper's 0.8% (chance) there is not
what its definitions give: "full, with self" has the usual causal mask, in which a token also sees itself; "full, usual" is
an ordinary Transformer's attention whose keys are its queries: the same mask, keys as long as they are, logits over root D.
Accuracy over the second w of 256 fresh sequences, rotations drawn afresh for each batch of 4.
"lsh-4, Adafactor" is the authors' optimizer (constant 1.0, 200 steps of warm-up, rsqrt).
Hardware and time for each line and seed. smoke: any CPU, seconds. laptop: two CPU cores, two lines at a time on one thread each, 4
to 9 minutes. gpu: one accelerator, 8,000 steps of 0.01 seconds (H200), evaluation not timed. paper: ``--estimate`` says what
150,000 steps take here (one to two days on a CPU).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reformer.evaluation.variants import attention_variant
from reformer.layers import FullSelfAttention
from reformer.models import ReformerLM
from reformer.ops import full_attention
from reformer.tasks.config import OptimizerConfig
from reformer.tasks.duplication import DuplicationConfig, duplication
from reproduction.case import Case
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Cell, Line, seeds_of
from reproduction.experiments.training_case import training_case

_ATTENTIONS = ("full", "lsh-8", "lsh-4", "lsh-2", "lsh-1")
_WITH_SELF, _USUAL = "full, with self", "full, usual"
_COLUMNS = (*_ATTENTIONS, _WITH_SELF, _USUAL)
_PAPER = {
    "full": (100, 94.8, 92.5, 76.9, 52.5),
    "lsh-4": (0.8, 100, 99.9, 99.4, 91.9),
    "lsh-2": (0.8, 100, 99.9, 98.1, 86.8),
    "lsh-1": (0.8, 99.9, 99.6, 94.8, 77.9),
}
_EXPECTED = {(row, column): value for row, values in _PAPER.items() for column, value in zip(_ATTENTIONS, values)}
_ADAFACTOR = "lsh-4, Adafactor"
_HALF = {"smoke": 15, "laptop": 511, "gpu": 511, "paper": 511}
_STEPS = {"smoke": 4, "gpu": 8000, "paper": 150_000}
# Fewer rounds find the pairs later: each line is trained until its curve is flat.
_LAPTOP_STEPS = {"full": 400, "lsh-4": 1000, "lsh-2": 1000, "lsh-1": 1400}
# With one round a strong decay holds the model back from finding any pair (docs/log.md).
_DECAY = {"lsh-1": 1.0}
_SEQUENCES = {"smoke": 8}


def config(row: str, scale: str, seed: int) -> DuplicationConfig:
    """The training run of one line of the table."""
    base, length = duplication(), 2 * _HALF[scale] + 2
    trained_with = row.partition(",")[0]
    optimizer = replace(base.optimizer, name="adamw", schedule="cosine", weight_decay=_DECAY.get(trained_with, 3.0))
    if row.endswith("Adafactor"):
        optimizer = OptimizerConfig(name="adafactor", lr=1.0, schedule="rsqrt", warmup_steps=200, clip_norm=None)
    kind, _, rounds = trained_with.partition("-")
    n_hashes = int(rounds) if rounds else base.model.n_hashes
    steps = _LAPTOP_STEPS[trained_with] if scale == "laptop" else _STEPS[scale]
    return replace(
        base,
        name=f"table2-{scale}",
        seq_len=length,
        batch_size=4,
        steps=steps,
        seed=seed,
        eval_every=max(1, steps // 10),
        eval_sequences=min(32, _SEQUENCES.get(scale, 32)),
        optimizer=optimizer,
        # Of a single layer there is nothing to rebuild: without, it is the same function and faster.
        model=replace(base.model, attention=(kind,), max_len=length, n_hashes=n_hashes, reversible=False),
    )


class _SelfSeeing(FullSelfAttention):
    """Full attention with shared QK and the usual causal mask; scale None: with keys as long as the queries, over root D."""

    def attend(self, q: Tensor, k: Any, v: Tensor, saved: Any, segment_ids: Tensor | None, dropout: Any) -> Tensor:
        """Evaluation: no dropout, and nothing is saved for a backward pass."""
        keys = q if self.scale is None else torch.nn.functional.normalize(q, dim=-1)
        out = full_attention(q, keys, v, causal=True, segment_ids=segment_ids, scale=self.scale)
        assert isinstance(out, Tensor)
        return out


def with_self(model: ReformerLM, usual: bool = False) -> ReformerLM:
    """``model``, whose layers are full, with layers of the same weights in which a token also sees itself.

    ``usual``: also with keys that are not made unit vectors, and logits over root D.
    """
    changed = model.with_changes()
    for layer in changed.stack.layers:
        before = layer.attention.inner
        assert isinstance(before, FullSelfAttention)
        scale = None if usual else before.scale
        layer.attention.inner = _SelfSeeing(model.config.d_model, before.n_heads, scale=scale)
        layer.attention.inner.load_state_dict(before.state_dict())
    return changed


def _measure(n_sequences: int, model: Any, task: Any) -> tuple[dict[str, float], str]:
    columns, protocol = {}, ""
    variants = {name: attention_variant(model, name) for name in _ATTENTIONS}
    variants |= {_WITH_SELF: with_self(variants["full"]), _USUAL: with_self(variants["full"], usual=True)}
    for name, variant in variants.items():
        result = task.evaluate(variant, "test", n_sequences)
        columns[name], protocol = 100 * result.extras["accuracy"], result.protocol
    return columns, protocol


def cases(scale: str, seed: int) -> list[Case]:
    """Lines of the table; the authors' optimizer last."""
    n_sequences = _SEQUENCES.get(scale, 256)

    def measure(model: Any, task: Any) -> tuple[dict[str, float], str]:
        return _measure(n_sequences, model, task)

    rows = (*_PAPER, _ADAFACTOR)
    measured = {"columns": _COLUMNS, "sequences": n_sequences}
    return [training_case(row, config(row, scale, seed), measure, measured=measured) for row in rows]


def finding(lines: Mapping[str, Line]) -> list[str]:
    """How many cells reach the paper's; its 0.8 is no mark to reach, and the authors' optimizer is told of apart."""
    found = []
    ours = {(row, column): cell for row in lines for column in _ATTENTIONS if (cell := lines[row].cell(column))}
    chance = [key for key in _EXPECTED if key in ours and _EXPECTED[key] < 1]
    marks = [key for key in _EXPECTED if key in ours and key not in chance]
    if marks:
        below = _below(marks, ours)
        rest = f"; below: {', '.join(below)}" if below else ""
        found.append(
            f"the means of {len(marks) - len(below)} of {len(marks)} cells, rounded as the paper's, are at or above those{rest}."
        )
    if chance:
        usual = {row: cell for row, _ in chance if (cell := lines[row].cell(_USUAL))}
        other = ", ".join(f"{row} {cell.mean:.2f}" for row, cell in usual.items())
        values = ", ".join(f"{row} {ours[row, column].mean:.2f}" for row, column in chance)
        found.append(
            f"Trained with LSH, evaluated under full attention: {values}, where the paper has 0.8"
            + (f"; under the usual full attention, which is another function: {other}." if other else ".")
        )
    keys = [(_ADAFACTOR, column) for column in _ATTENTIONS if (_ADAFACTOR, column) in ours]
    if keys:
        below = _below(keys, ours)
        rest = f"below the paper: {', '.join(below)}" if below else "no cell is below the paper's"
        found.append(f"With the authors' optimizer ({seeds_of([lines[_ADAFACTOR]])}): {rest}.")
    return found


def _below(keys: list[tuple[str, str]], ours: Mapping[tuple[str, str], Cell]) -> list[str]:
    """ "line under column ours (paper's)" of the cells below the paper's, with as many digits as the paper prints."""
    expected = {(row, column): _EXPECTED[row.partition(",")[0], column] for row, column in keys}
    return [
        f"{row} under {column} {ours[row, column].mean:.2f} ({paper:g})"
        for (row, column), paper in expected.items()
        if not round(ours[row, column].mean, 1) >= paper
    ]


EXPERIMENT = Experiment(
    name="table2",
    title="Table 2: accuracy on the duplication task, by attention in training (lines) and at evaluation (columns)",
    metric="accuracy, %",
    better="higher",
    columns=_COLUMNS,
    cases=cases,
    seeds={"smoke": 1, "laptop": 5, "gpu": 5, "paper": 1},
    paper=_EXPECTED,
    notes={
        "smoke": "|w| = 15, 4 steps: shows that everything runs, nothing else",
        "laptop": "the paper's size (|w| = 511), 400 to 1,400 steps of 4 sequences instead of 150,000; AdamW with weight decay 3 "
        "(lsh-1: 1), without which 1,000 steps end below the paper under few rounds (docs/log.md)",
        "gpu": "the paper's size, 8,000 steps of 4 sequences instead of 150,000",
        "paper": "the paper's size and steps",
    },
    finding=finding,
    headline=("lsh-4", "lsh-1"),
)
