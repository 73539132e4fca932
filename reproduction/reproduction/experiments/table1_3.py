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
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from statistics import linear_regression
from time import perf_counter

from reformer.models import ReformerConfig
from reproduction.benchmarks.steps import measure_step
from reproduction.case import Case, Place
from reproduction.experiments.experiment import TOY_SIZES, Experiment
from reproduction.experiments.lines import Line
from reproduction.rows import Row

# Kind of attention, reversible, chunked; and the paper's claims for large L, in the order of the columns.
_VARIANTS: dict[str, tuple[str, bool, bool]] = {
    "Transformer": ("full", False, False),
    "Reversible Transformer": ("full", True, False),
    "Chunked Reversible Transformer": ("full", True, True),
    "LSH Transformer": ("lsh", False, False),
    "Reformer": ("lsh", True, True),
}
_CLAIMS = {
    "Transformer": (2, 2, 1),
    "Reversible Transformer": (2, 2, 0),
    "Chunked Reversible Transformer": (2, 2, 0),
    "LSH Transformer": (1, 1, 1),
    "Reformer": (1, 1, 0),
}
_TIME_L, _MEMORY_L, _MEMORY_DEPTH = "time by length", "activations by length", "activations by depth"
_COLUMNS = (_TIME_L, _MEMORY_L, _MEMORY_DEPTH)
_LENGTHS = {"smoke": (128, 256), "laptop": (4096, 8192, 16_384), "gpu": (16_384, 32_768, 65_536)}
_DEPTHS = {"smoke": (1, 2), "laptop": (4, 16, 64), "gpu": (2, 6, 12)}
_ACTIVATIONS = "activation_bytes"
_WIDTHS = {"smoke": 32, "laptop": 128, "gpu": 1024}


def model(scale: str, variant: str, depth: int) -> ReformerConfig:
    """One of the five variants: heads of 64, d_ff four times d_model, four hash rounds."""
    (kind, reversible, chunked), width = _VARIANTS[variant], _WIDTHS[scale]
    return ReformerConfig(
        d_model=width,
        d_ff=4 * width,
        n_heads=max(1, width // 64),
        attention=(kind,) * depth,
        n_hashes=4,
        positions="sinusoidal",
        reversible=reversible,
        ff_chunk_len=512 if chunked else None,
        loss_chunk_len=512 if chunked else None,
    )


def _slope(xs: Sequence[float], steps: Sequence[Row], field: str) -> float:
    """Of the least-squares line through (log x, log y)."""
    # At toy sizes the process's own memory covers the activations.
    ys = [max(step[field], 1) if field == _ACTIVATIONS else step[field] for step in steps]
    return linear_regression(list(map(math.log, xs)), list(map(math.log, ys))).slope


def cases(scale: str, seed: int) -> list[Case]:
    """One case a variant."""
    lengths, depths = _LENGTHS[scale], _DEPTHS[scale]

    def case(variant: str) -> Case:
        def run(place: Place) -> Generator[Row | None]:
            began = perf_counter()
            by_length = [measure_step(model(scale, variant, depths[0]), seq_len=length) for length in lengths]
            deeper = [measure_step(model(scale, variant, n), seq_len=lengths[0], repeats=0) for n in depths[1:]]
            by_depth = [by_length[0], *deeper]
            columns = {
                _TIME_L: _slope(lengths, by_length, "median_s"),
                _MEMORY_L: _slope(lengths, by_length, _ACTIVATIONS),
                _MEMORY_DEPTH: _slope(depths, by_depth, _ACTIVATIONS),
            }
            peak = max(step["peak_bytes"] for step in (*by_length, *deeper))
            times = [f"{step['median_s']:.3g} s, {_mib(step)}" for step in by_length]
            measured = "; ".join(f"L={length:,}: {each}" for length, each in zip(lengths, times))
            deep = ", ".join(f"{depth}: {_mib(step)}" for depth, step in zip(depths, by_depth))
            yield {
                "columns": columns,
                "cost": {"seconds": perf_counter() - began, "peak_memory_bytes": peak},
                "protocol": f"{depths[0]} layers, {measured}; depth at L={lengths[0]:,}, {deep}",
            }

        config = {"model": asdict(model(scale, variant, 1)), "lengths": lengths, "depths": depths}
        return Case(row=variant, seed=seed, config=config, run=run)

    return [case(variant) for variant in _VARIANTS]


def _mib(step: Row) -> str:
    return f"{step[_ACTIVATIONS] / 2**20:.0f} MiB"


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
