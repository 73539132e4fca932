"""Figure 5, right: seconds of one attention, forward and backward, at a constant number of tokens.

    reformer reproduce figure5-right --scale laptop

Columns are length x batch, 32,768 tokens in each. Full attention grows with the length, LSH attention does not. The paper's
numbers were read off its plot (3% either way) and its hardware is not stated: compare the shapes, not the seconds. Ours:
8 heads of 64, chunks of 64, causal; hashing and sorting included; median of three calls after one.
Hardware and time in all. smoke: any CPU, seconds. laptop: two CPU cores that do nothing else, five minutes. gpu: one
accelerator, 20 seconds (H200). There is no larger scale.
"""

from collections.abc import Generator, Mapping
from dataclasses import asdict
from statistics import median
from time import perf_counter

import torch

from reformer.training.environment import chosen_device
from reproduction.benchmarks.attention import BOTH, AttentionSubject
from reproduction.benchmarks.operations import Shape
from reproduction.case import Case, Place
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line
from reproduction.rows import Row
from reproduction.worker import Worker

# Digitised to ±3%: hardware not stated, whole training steps.
PAPER_LENGTHS = (1024, 2048, 4096, 8192, 16_384, 32_768)
PAPER = {
    "full": (0.17, 0.30, 0.48, 0.98, 1.9, 3.5),
    "LSH-1": (0.10, 0.083, 0.072, 0.068, 0.071, 0.075),
    "LSH-2": (0.15, 0.12, 0.11, 0.10, 0.11, 0.135),
    "LSH-4": (0.205, 0.18, 0.16, 0.16, 0.19, 0.23),
    "LSH-8": (0.32, 0.29, 0.28, 0.30, 0.355, 0.44),
}
_TOKENS = {"smoke": 512, "laptop": 32_768, "gpu": 32_768}
_LENGTHS = {"smoke": (128, 512), "laptop": PAPER_LENGTHS, "gpu": PAPER_LENGTHS}
_ROUNDS: dict[str, int | None] = {"full": None, "LSH-1": 1, "LSH-2": 2, "LSH-4": 4, "LSH-8": 8}
_REPEATS = 3


def _columns(scale: str) -> dict[str, int]:
    """The length of each column."""
    return {f"{length:,} x {_TOKENS[scale] // length}": length for length in _LENGTHS[scale]}


def cases(scale: str, seed: int) -> list[Case]:
    """One case a kind of attention."""

    def case(row: str, rounds: int | None) -> Case:
        same = {"n_heads": 8, "head_dim": 64, "dtype": "bfloat16" if scale == "gpu" else "float32"}
        hashing = {"n_hashes": rounds, "chunk_len": None if rounds is None else 64}
        shapes = {
            column: Shape(batch=_TOKENS[scale] // length, seq_len=length, **same, **hashing)  # type: ignore[arg-type]
            for column, length in _columns(scale).items()
        }

        def run(place: Place) -> Generator[Row | None]:
            began = perf_counter()
            machine = {"device": chosen_device("auto").type, "threads": torch.get_num_threads()}
            with Worker(AttentionSubject, contender="sdpa" if rounds is None else "reformer", **machine) as worker:
                columns = {
                    column: median([worker.call("time", shape=shape, direction=BOTH) for _ in range(1 + _REPEATS)][1:])
                    for column, shape in shapes.items()
                }
            yield {
                "columns": columns,
                "cost": {"seconds": perf_counter() - began},
                "curve": [[shape.seq_len, columns[column]] for column, shape in shapes.items()],
                "protocol": f"forward and backward of one causal attention, 8 heads of 64, median of {_REPEATS} calls",
            }

        config = {"shapes": {column: asdict(shape) for column, shape in shapes.items()}, "repeats": _REPEATS}
        return Case(row=row, seed=seed, config=config, run=run, columns=tuple(shapes))

    return [case(row, rounds) for row, rounds in _ROUNDS.items()]


def finding(lines: Mapping[str, Line]) -> list[str]:
    """How many times as long the longest sequences take as the shortest, at as many tokens."""
    found = []
    for name, line in lines.items():
        short, *_, long = _columns(line.scale)
        from_, to = line.cell(short), line.cell(long)
        if from_ and to:
            found.append(f"{name} {to.mean / from_.mean:.2f}")
    return [f"seconds at {long} in those at {short}: {', '.join(found)}."] if found else []


_LAPTOP = tuple(_columns("laptop"))

EXPERIMENT = Experiment(
    name="figure5-right",
    title="Figure 5, right: seconds by length at 32,768 tokens a step",
    metric="seconds of one attention, forward and backward",
    better="lower",
    columns=(*_LAPTOP, *_columns("smoke")),
    cases=cases,
    seeds={"smoke": 1, "laptop": 1, "gpu": 1},
    paper={(row, column): value for row, values in PAPER.items() for column, value in zip(_LAPTOP, values)},
    notes={
        "smoke": "512 tokens: shows that everything runs, nothing else",
        "laptop": "float32, one attention of 8 heads of 64; the paper does not state its model or hardware here",
        "gpu": "bfloat16, one attention of 8 heads of 64",
    },
    digits=4,
    curve=("length", "seconds"),
    log_axes="xy",
    finding=finding,
    headline=("LSH-4", _LAPTOP[4]),
)
