"""Tables 1 and 3: how time and memory of the five model variants grow with length and with depth.

    reformer reproduce table1-3 --scale laptop

A training step (Adam, random tokens) is measured at growing length and at growing depth, on a CPU each in a fresh process; columns
hold the slope of a straight line through the logarithms: 1 is linear, 2 quadratic, 0 constant. The paper's claims are
those of its tables for large L. Ours differ in one way that helps every variant: full attention never stores L × L weights
(scaled_dot_product_attention), so its memory is linear in L too.
Hardware and time in all. smoke: any CPU, seconds. laptop: two CPU cores that do nothing else, 8 minutes. gpu: one accelerator, half
a minute (H200). There is no larger scale.
"""

import math
from collections.abc import Generator, Mapping
from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

from reformer.models import ReformerConfig
from reproduction.benchmarks.steps import measure_step
from reproduction.case import Case, Place
from reproduction.experiments.experiment import TOY_SIZES, Experiment
from reproduction.experiments.lines import Line
from reproduction.rows import Row

_VARIANTS: dict[str, dict[str, Any]] = {
    "Transformer": {"kind": "full", "reversible": False, "chunked": False},
    "Reversible Transformer": {"kind": "full", "reversible": True, "chunked": False},
    "Chunked Reversible Transformer": {"kind": "full", "reversible": True, "chunked": True},
    "LSH Transformer": {"kind": "lsh", "reversible": False, "chunked": False},
    "Reformer": {"kind": "lsh", "reversible": True, "chunked": True},
}
_TIME_L, _MEMORY_L, _MEMORY_DEPTH = "time by length", "activations by length", "activations by depth"
_COLUMNS = (_TIME_L, _MEMORY_L, _MEMORY_DEPTH)
_LENGTHS = {"smoke": (128, 256), "laptop": (4096, 8192, 16_384), "gpu": (16_384, 32_768, 65_536)}
_DEPTHS = {"smoke": (1, 2), "laptop": (4, 16, 64), "gpu": (2, 6, 12)}
_WIDTHS = {"smoke": 32, "laptop": 128, "gpu": 1024}


def model(scale: str, variant: str, depth: int) -> ReformerConfig:
    """One of the five variants: heads of 64, d_ff four times d_model, four hash rounds."""
    what, width = _VARIANTS[variant], _WIDTHS[scale]
    return ReformerConfig(
        d_model=width,
        d_ff=4 * width,
        n_heads=max(1, width // 64),
        attention=(what["kind"],) * depth,
        n_hashes=4,
        positions="sinusoidal",
        reversible=what["reversible"],
        ff_chunk_len=512 if what["chunked"] else None,
        loss_chunk_len=512 if what["chunked"] else None,
    )


def slope(xs: list[float], ys: list[float]) -> float:
    """Of the least-squares line through (log x, log y)."""
    u, v = [math.log(x) for x in xs], [math.log(y) for y in ys]
    mean_u, mean_v = sum(u) / len(u), sum(v) / len(v)
    above = sum((a - mean_u) * (b - mean_v) for a, b in zip(u, v))
    return above / sum((a - mean_u) ** 2 for a in u)


def _run(scale: str, variant: str) -> Row:
    began = perf_counter()
    lengths, depths = _LENGTHS[scale], _DEPTHS[scale]
    by_length = [measure_step(model(scale, variant, depths[0]), seq_len=length) for length in lengths]
    by_depth = [by_length[0]]
    for depth in depths[1:]:
        by_depth.append(measure_step(model(scale, variant, depth), seq_len=lengths[0], repeats=0))
    columns = {
        _TIME_L: slope([*lengths], [step["median_s"] for step in by_length]),
        _MEMORY_L: slope([*lengths], list(map(_activations, by_length))),
        _MEMORY_DEPTH: slope([*depths], list(map(_activations, by_depth))),
    }
    measured = "; ".join(
        f"L={length:,}: {step['median_s']:.3g} s, {step['activation_bytes'] / 2**20:.0f} MiB"
        for length, step in zip(lengths, by_length)
    )
    deep = ", ".join(f"{depth}: {step['activation_bytes'] / 2**20:.0f} MiB" for depth, step in zip(depths, by_depth))
    peak = max(step["peak_bytes"] for step in (*by_length, *by_depth))
    return {
        "columns": columns,
        "cost": {"seconds": perf_counter() - began, "peak_memory_bytes": peak},
        "protocol": f"{depths[0]} layers, {measured}; depth at L={lengths[0]:,}, {deep}",
    }


def _activations(step: Row) -> float:
    # At toy sizes the process's own memory covers them.
    return float(max(step["activation_bytes"], 1))


def cases(scale: str, seed: int) -> list[Case]:
    """One case a variant."""

    def case(variant: str) -> Case:
        def run(place: Place) -> Generator[Row | None]:
            yield _run(scale, variant)

        described = asdict(replace(model(scale, variant, 1), impl="auto"))
        config = {"model": described, "lengths": _LENGTHS[scale], "depths": _DEPTHS[scale]}
        return Case(row=variant, seed=seed, config=config, run=run)

    return [case(variant) for variant in _VARIANTS]


def finding(lines: Mapping[str, Line]) -> list[str]:
    """The exponents beside the claimed ones."""
    found = []
    for name, line in lines.items():
        cells = {column: line.cell(column) for column in _COLUMNS}
        values = (
            f"{column} {cell.mean:.2f} ({claim})"
            for (column, cell), claim in zip(cells.items(), _CLAIMS.get(name, ()))
            if cell is not None
        )
        found.append(f"{name}, exponents (in parentheses the paper's): {', '.join(values)}.")
    return found


_CLAIMS = {
    "Transformer": (2, 2, 1),
    "Reversible Transformer": (2, 2, 0),
    "Chunked Reversible Transformer": (2, 2, 0),
    "LSH Transformer": (1, 1, 1),
    "Reformer": (1, 1, 0),
}

EXPERIMENT = Experiment(
    name="table1-3",
    title="Tables 1 and 3: growth of time and memory, as fitted exponents",
    metric="exponent of a power law fitted to training steps",
    better="",
    columns=_COLUMNS,
    cases=cases,
    seeds={"smoke": 1, "laptop": 1, "gpu": 1},
    paper={(row, column): value for row, values in _CLAIMS.items() for column, value in zip(_COLUMNS, values)},
    notes={
        "smoke": TOY_SIZES,
        "laptop": "d_model 128, lengths 4,096 to 16,384 at 4 layers, depths 4 to 64 at 4,096; bytes are the process's, with what "
        "malloc keeps, which is most of the Reformer's growth with depth; full attention never stores L × L weights, hence 1 and "
        "not 2 for its activations; the chunked line's first time was an outlier (docs/log.md)",
        "gpu": "d_model 1,024, lengths 16,384 to 65,536 at 2 layers, depths 2 to 12 at 16,384, bfloat16",
    },
    finding=finding,
    headline=("Reformer", _TIME_L),
)
