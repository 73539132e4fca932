"""What the rows of benchmarks say: tables, and sentences of how much faster, how time grows, and from which length on."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from reformer.training.progress import format_bytes
from reproduction.benchmarks.attention import BOTH
from reproduction.benchmarks.contenders import ATTENTION
from reproduction.benchmarks.roofline import fraction
from reproduction.rows import Row, by, values
from reproduction.tables import Table, seconds

_SETTING = ("device", "threads", "dtype", "n_heads", "head_dim")
_SHAPE = (*_SETTING, "batch", "seq_len")
_HASHING = ("n_hashes", "chunk_len")
# What is compared with what: attention given q, k, v; whole layers with their projections; local attention.
_OURS = ("reformer", "reformer-layer", "reformer-local")
_BASELINES = {"attention": "sdpa", "layer": "transformers-layer", "local": "flex-local"}

_TIME = ("median", "quartiles", "n")
_STEP = ("model", "layers", "backward", "L", "dtype", "contender", *_TIME, "tokens/s", "peak", "activations")
_HASHED = ("L", "B", "R", "chunk", "dtype", "direction", "contender")
_COLUMNS = {
    "attention": (*_HASHED, *_TIME, "speed", "memory", "of roofline"),
    "model": _STEP,
    "memory": _STEP,
    "decode": ("model", "context", "B", "contender", *_TIME, "tokens/s", "growth"),
    "ceilings": ("device", "threads", "dtype", "product", "copy"),
}


def bench_table(rows: Iterable[Row], ceilings: Sequence[Row] = ()) -> Table:
    """One line a row of a benchmark, with that benchmark's columns.

    "speed": how many times as fast as the baseline at the same shape and direction. "growth": the time of a token over that at
    the decoder's shortest context.
    """
    rows = list(rows)
    if rows and rows[0]["benchmark"] == "attention":
        rows.sort(key=_reading_order)
    return [{name: _cell(name, row, rows, ceilings) for name in _COLUMNS[row["benchmark"]]} for row in rows]


def _field(name: str, form: str = "{}") -> Callable[[Row], str]:
    return lambda row: "" if row.get(name) is None else form.format(row[name])


def _bytes(name: str, per: str = "") -> Callable[[Row], str]:
    return lambda row: f"{format_bytes(row[name])}{per}" if name in row else ""


# Cells that a row gives by itself.
_CELLS: dict[str, Callable[[Row], str]] = {
    **{name: _field(name) for name in ("model", "layers", "device", "threads", "dtype", "direction")},
    "backward": lambda row: "reversible" if row["reversible"] else "ordinary",
    "context": _field("seq_len", "{:,}"),
    "L": _field("seq_len", "{:,}"),
    "B": _field("batch"),
    "R": _field("n_hashes"),
    "chunk": _field("chunk_len"),
    "contender": lambda row: _name(row),
    "median": lambda row: f"not run: {row['not_run']}" if "not_run" in row else seconds(row["median_s"]),
    "quartiles": lambda row: (
        f"{seconds(row['q1_s'])} – {seconds(row['q3_s'])}" if row.get("repeats", 1) > 1 and "q1_s" in row else ""
    ),
    "n": _field("repeats"),
    "tokens/s": _field("tokens_per_second", "{:,.0f}"),
    "memory": _bytes("extra_bytes"),
    "peak": _bytes("peak_bytes"),
    "activations": _bytes("activation_bytes"),
    "product": lambda row: f"{row['flops_per_s'] / 1e9:,.0f} GFLOP/s",
    "copy": _bytes("bytes_per_s", "/s"),
}


def _cell(column: str, row: Row, rows: list[Row], ceilings: Sequence[Row]) -> str:
    match column:
        case "speed":
            return _speed(row, rows)
        case "growth":
            return _growth_of_a_token(row, rows)
        case "of roofline":
            return _of_roofline(row, ceilings)
    return _CELLS[column](row)


def _name(row: Row) -> str:
    runs = row.get("runs")
    return f"{row['contender']} ({runs})" if runs and not row["contender"].endswith(runs) else str(row["contender"])


def _growth_of_a_token(row: Row, rows: list[Row]) -> str:
    same = ("contender", "model", "batch", "device", "threads", "dtype")
    timed = [other for other in rows if "median_s" in other and values(other, *same) == values(row, *same)]
    if "median_s" not in row or len(timed) < 2:
        return ""
    return f"{row['median_s'] / min(timed, key=lambda other: int(other['seq_len']))['median_s']:.2f} ×"


def _speed(row: Row, rows: list[Row]) -> str:
    baseline = _BASELINES[_kind(row["contender"])]
    for base in rows:
        if base["contender"] == baseline and base is not row and "median_s" in row and _comparable(row, base):
            return f"{base['median_s'] / row['median_s']:.2f} × {baseline}"
    return ""


def _of_roofline(row: Row, ceilings: Sequence[Row]) -> str:
    machine = ("dtype", "device", "threads")
    found = [each for each in ceilings if values(each, *machine) == values(row, *machine)]
    if not found or "median_s" not in row or row["contender"].endswith("-layer"):
        return ""
    return f"{fraction(row, found[-1]):.0%}"


def findings(rows: Iterable[Row]) -> list[str]:
    """Sentences: how many times as fast as each other contender, how time grows with length, and the crossover."""
    timed = sorted((row for row in rows if "median_s" in row), key=_reading_order)
    return [*_ratios(timed), *_growth(timed), *crossovers(timed)]


def _ratios(rows: list[Row]) -> list[str]:
    said = []
    for row in (row for row in rows if row["contender"] in _OURS):
        others = [other for other in rows if _comparable(row, other) and ATTENTION[other["contender"]].impl is None]
        if others:
            rounds = "" if row.get("n_hashes") is None else f" R={row['n_hashes']}"
            where = f"L={row['seq_len']:,} B={row['batch']}{rounds} {row['dtype']} {row['direction']}"
            times = [f"{other['median_s'] / row['median_s']:.2f} × as fast as {other['contender']}" for other in others]
            said.append(f"{where}: {row['contender']} is {', '.join(times)}")
    return said


def _growth(rows: list[Row]) -> list[str]:
    said = []
    names = (*_SETTING, "batch", "direction", "n_hashes", "chunk_len")
    for _, group in by((row for row in rows if row["contender"] == "reformer"), *names):
        what = f"R={group[0]['n_hashes']} {group[0]['dtype']} {group[0]['direction']}"
        for (before, first), (length, last) in pairwise(sorted(_by_length(group).items())):
            if length >= 16_384 and before >= 4096:
                times = f"{length / before:g} × the length, {last / first:.2f} × the time ({length:,})"
                said.append(f"growth, {what}: {times}")
    return said


def crossovers(rows: Iterable[Row]) -> list[str]:
    """For each number of rounds, from which length on LSH attention beats full attention, forward and backward."""
    said = []
    for setting, group in by((row for row in rows if row["direction"] == BOTH and "median_s" in row), *_SETTING):
        full = _by_length(row for row in group if row["contender"] == "sdpa")
        ours = sorted((row for row in group if row["contender"] == "reformer"), key=lambda row: int(row["n_hashes"]))
        for (rounds, chunk_len), mine in by(ours, "n_hashes", "chunk_len"):
            found = crossover(_by_length(mine), full)
            if found is not None and len(full) > 1:
                said.append(f"crossover with sdpa, {BOTH}, R={rounds}, chunk {chunk_len}, {setting[2]}: {found}")
    return said


def crossover(ours: Mapping[int, float], theirs: Mapping[int, float]) -> str | None:
    """The least measured length from which on ``ours`` (seconds by length) stays below ``theirs``, in words.

    Between the neighbours the logarithm of the ratio is taken as linear in that of the length. None: no length in common.
    """
    lengths = sorted(set(ours) & set(theirs))
    slower = [length for length in lengths if ours[length] >= theirs[length]]
    if not slower:
        return f"from {lengths[0]:,} tokens, the shortest measured, or earlier" if lengths else None
    below = slower[-1]
    if below == lengths[-1]:
        return f"not up to {below:,} tokens, the longest measured"
    above = lengths[lengths.index(below) + 1]
    at_below, at_above = (math.log(ours[length] / theirs[length]) for length in (below, above))
    length = below * (above / below) ** (at_below / (at_below - at_above))
    return f"about {length:,.0f} tokens (slower at {below:,}, faster at {above:,}; interpolated)"


def _comparable(row: Row, other: Row) -> bool:
    """Whether two timed rows did the same job: rounds and chunks must agree if both have them."""
    same = (*_SHAPE, "direction")
    return (
        "median_s" in other
        and _kind(row["contender"]) == _kind(other["contender"])
        and values(row, *same) == values(other, *same)
        and all(row.get(name) == other.get(name) or None in (row.get(name), other.get(name)) for name in _HASHING)
    )


def _kind(contender: str) -> str:
    return contender.rpartition("-")[2] if contender.endswith(("-layer", "-local")) else "attention"


def _by_length(rows: Iterable[Row]) -> dict[int, float]:
    """Seconds a sequence by length."""
    return {row["seq_len"]: row["median_s"] / row["batch"] for row in rows}


def _reading_order(row: Row) -> tuple[Any, ...]:
    return (*values(row, "device", "dtype", "head_dim", "seq_len", "batch", "direction"), row.get("n_hashes") or 0)
