"""The claims of size, the authors' and ours: a million tokens, a whole novel, and 20 layers at 64K, each on one device.

    reformer reproduce claims --scale laptop

One training step (Adafactor) of each shape, on a CPU in a fresh process. "1M tokens": the authors' 6 layers local/LSH, [128, 128]
buckets, one round, d_model 256, within 16 GB of an accelerator. "novel, 512K": their demo's shape, 524,288 tokens as one
sequence, 2.7M parameters within 8 GB. "20 layers, 64K": the enwik8 model with 20 layers, d_model reduced to 256 here.
Hardware and time in all. smoke: any CPU, seconds. laptop: two CPU cores and 17 GiB, 18 minutes. gpu: one accelerator
with room for 15.2 GiB of tensors, 20 seconds (H200). There is no larger scale.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, replace
from typing import Any

from reformer.models import ReformerConfig
from reproduction.benchmarks.shapes import enwik8, million
from reproduction.benchmarks.steps import measure_step
from reproduction.case import Case, Place
from reproduction.experiments.experiment import TOY_SIZES, Experiment
from reproduction.experiments.lines import Line
from reproduction.rows import Row

_GIB, _SECONDS = "peak, GiB", "seconds a step"


# Of each claim: the model it is a change of, the change, and the length.
_CLAIMS: dict[str, tuple[Callable[[], tuple[ReformerConfig, int]], dict[str, Any], int]] = {
    "1M tokens": (million, {}, 1_048_576),
    "novel, 512K tokens": (
        million,
        {"vocab_size": 320, "n_buckets": (64, 128), "axial_shape": (512, 1024), "axial_dims": (64, 192)},
        524_288,
    ),
    "20 layers, 64K tokens": (enwik8, {"attention": ("lsh",) * 20}, 65_536),
}


def cases(scale: str, seed: int) -> list[Case]:
    """One case a claim."""

    def case(row: str) -> Case:
        base, changes, length = _CLAIMS[row]
        config = replace(base()[0], **changes)
        if scale == "smoke":
            tiny: dict[str, Any] = {"axial_shape": (16, 16), "n_buckets": (4, 4), "ff_chunk_len": 64}
            config, length = replace(config, attention=config.attention[:2], **tiny), 256

        def run(place: Place) -> Generator[Row | None]:
            step = measure_step(config, seq_len=length, optimizer="adafactor", repeats=0)
            seconds, peak = step["median_s"], step["peak_bytes"]
            yield {
                "columns": {_GIB: peak / 2**30, _SECONDS: seconds},
                "cost": {"seconds": seconds, "peak_memory_bytes": peak, "steps": 1, "tokens": length},
                "protocol": f"one training step of {length:,} tokens; time of the first step on a CPU, of the second on a GPU",
            }

        return Case(row=row, seed=seed, config={"model": asdict(config), "seq_len": length}, run=run)

    return [case(row) for row in _CLAIMS]


# The authors' blog and demo, not the paper; in GB, as accelerators are sold. Nobody said a number of the 20 layers.
_PAPER = {"1M tokens": 16, "novel, 512K tokens": 8}


def finding(lines: Mapping[str, Line]) -> list[str]:
    """Peak memory beside the claim."""
    cells = {name: line.cell(_GIB) for name, line in lines.items()}
    peaks = [
        f"{name} {cell.mean:.1f} GiB, {cell.mean * 2**30 / 1e9:.1f} GB ({_PAPER.get(name, 'no number')})"
        for name, cell in cells.items()
        if cell is not None
    ]
    return [f"peak memory of one training step (in parentheses the authors' GB): {', '.join(peaks)}."] if peaks else []


_NOTE = (
    "the shapes of the claims, one training step each; the 20-layer model with d_model 256 instead of 1,024; the authors' 16 "
    "and 8 are GB of their accelerators, from their blog and demo"
)

EXPERIMENT = Experiment(
    name="claims",
    title="Claims: a million tokens (authors: 16 GB), a novel (8 GB), 20 layers at 64K (d_model 256 here), each on one device",
    metric="peak memory of the process (GPU: of its tensors) and time",
    better="lower",
    columns=(_GIB, _SECONDS),
    cases=cases,
    seeds={"smoke": 1, "laptop": 1, "gpu": 1},
    paper={(row, _GIB): value for row, value in _PAPER.items()},
    notes={
        "smoke": TOY_SIZES,
        "laptop": _NOTE,
        "gpu": _NOTE,
    },
    digits=2,
    finding=finding,
)
