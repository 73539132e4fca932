"""What the rows of benchmarks say: tables, and sentences of how much faster, how time grows, and from which length on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from reformer.training.progress import format_bytes
from reproduction.benchmarks.contenders import ATTENTION
from reproduction.benchmarks.roofline import fraction
from reproduction.benchmarks.subject import BOTH
from reproduction.rows import Row, by, values
from reproduction.tables import Table, seconds

_SETTING = ("device", "threads", "dtype", "n_heads", "head_dim")
_SHAPE = (*_SETTING, "batch", "seq_len")
_HASHING = ("n_hashes", "chunk_len")
# What is compared with what: attention given q, k, v; whole layers with their projections; local attention.
_OURS = ("reformer", "reformer-layer", "reformer-local")
_BASELINES = {"attention": "sdpa", "layer": "transformers-layer", "local": "flex-local"}


def attention_table(rows: Iterable[Row], ceilings: Sequence[Row] = ()) -> Table:
    """One line a row; "speed" is how many times as fast as the baseline at the same shape and direction."""
    rows = list(rows)
    return [
        {
            "L": f"{row['seq_len']:,}",
            "B": str(row["batch"]),
            "R": _or_empty(row.get("n_hashes")),
            "chunk": _or_empty(row.get("chunk_len")),
            "dtype": row["dtype"],
            "direction": row["direction"],
            "contender": _name(row),
            **_time(row),
            "speed": _speed(row, rows),
            "memory": _bytes(row, "extra_bytes"),
            "of roofline": _of_roofline(row, ceilings),
        }
        for row in sorted(rows, key=_reading_order)
    ]


def step_table(rows: Iterable[Row]) -> Table:
    """One line a training step: model or memory benchmark."""
    return [
        {
            "model": row["model"],
            "layers": str(row["layers"]),
            "backward": "reversible" if row["reversible"] else "ordinary",
            "L": f"{row['seq_len']:,}",
            "dtype": row["dtype"],
            "contender": row["contender"],
            **_time(row),
            "tokens/s": _speed_of(row),
            "peak": _bytes(row, "peak_bytes"),
            "activations": _bytes(row, "activation_bytes"),
        }
        for row in rows
    ]


def decode_table(rows: Iterable[Row]) -> Table:
    """One line a decoder and context; "growth" is its time over that at its shortest context."""
    rows = list(rows)
    return [
        {
            "model": row["model"],
            "context": f"{row['seq_len']:,}",
            "B": str(row["batch"]),
            "contender": row["contender"],
            **_time(row),
            "tokens/s": _speed_of(row),
            "growth": _growth_of_a_token(row, rows),
        }
        for row in rows
    ]


def _growth_of_a_token(row: Row, rows: list[Row]) -> str:
    same = ("contender", "model", "batch", "device", "threads", "dtype")
    timed = [other for other in rows if "median_s" in other and values(other, *same) == values(row, *same)]
    if "median_s" not in row or len(timed) < 2:
        return ""
    return f"{row['median_s'] / min(timed, key=lambda other: other['seq_len'])['median_s']:.2f} ×"


def findings(rows: Iterable[Row]) -> list[str]:
    """Sentences: how many times as fast as each other contender, how time grows with length, and the crossover."""
    timed = sorted((row for row in rows if "median_s" in row), key=_reading_order)
    return [*_ratios(timed), *_growth(timed), *crossovers(timed)]


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """``length``: interpolated; ``below`` and ``above``: the measured neighbours (None: there is none)."""

    length: float | None
    below: int | None
    above: int | None

    def __str__(self) -> str:
        if self.above is None:
            return f"not up to {self.below:,} tokens, the longest measured"
        if self.below is None:
            return f"from {self.above:,} tokens, the shortest measured, or earlier"
        return f"about {self.length:,.0f} tokens (slower at {self.below:,}, faster at {self.above:,}; interpolated)"


def crossover(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Crossover | None:
    """The least measured length from which on ``ours`` (seconds by length) stays below ``theirs``.

    Between the neighbours the logarithm of the ratio is taken as linear in that of the length. None: no length in common.
    """
    lengths = sorted(set(ours) & set(theirs))
    if not lengths:
        return None
    slower = [length for length in lengths if ours[length] >= theirs[length]]
    if not slower:
        return Crossover(length=None, below=None, above=lengths[0])
    below = slower[-1]
    if below == lengths[-1]:
        return Crossover(length=None, below=below, above=None)
    above = lengths[lengths.index(below) + 1]
    at_below, at_above = (math.log(ours[length] / theirs[length]) for length in (below, above))
    share = at_below / (at_below - at_above)
    return Crossover(length=below * (above / below) ** share, below=below, above=above)


def crossovers(rows: Iterable[Row]) -> list[str]:
    """For each number of rounds, from which length on LSH attention beats full attention, forward and backward."""
    said = []
    for setting, group in by((row for row in rows if row["direction"] == BOTH and "median_s" in row), *_SETTING):
        full = _by_length(row for row in group if row["contender"] == "sdpa")
        ours = [row for row in group if row["contender"] == "reformer"]
        for (rounds, chunk_len), mine in by(sorted(ours, key=lambda row: row["n_hashes"]), "n_hashes", "chunk_len"):
            found = crossover(_by_length(mine), full)
            if found is not None and len(full) > 1:
                said.append(f"crossover with sdpa, {BOTH}, R={rounds}, chunk {chunk_len}, {setting[2]}: {found}")
    return said


def _ratios(rows: list[Row]) -> list[str]:
    said = []
    for row in rows:
        name = row["contender"]
        if name not in _OURS:
            continue
        others = [other for other in rows if _comparable(row, other) and ATTENTION[other["contender"]].impl is None]
        if others:
            rounds = "" if row.get("n_hashes") is None else f" R={row['n_hashes']}"
            where = f"L={row['seq_len']:,} B={row['batch']}{rounds} {row['dtype']} {row['direction']}"
            times = [f"{other['median_s'] / row['median_s']:.2f} × as fast as {other['contender']}" for other in others]
            said.append(f"{where}: {name} is {', '.join(times)}")
    return said


def _growth(rows: list[Row]) -> list[str]:
    said = []
    names = (*_SETTING, "batch", "direction", "n_hashes", "chunk_len")
    for _, group in by((row for row in rows if row["contender"] == "reformer"), *names):
        times = sorted(_by_length(group).items())
        for (before, first), (length, last) in pairwise(times):
            if length >= 16_384 and before >= 4096:
                what = f"R={group[0]['n_hashes']} {group[0]['dtype']} {group[0]['direction']}"
                said.append(
                    f"growth, {what}: {length / before:g} × the length, {last / first:.2f} × the time ({length:,})"
                )
    return said


def _speed(row: Row, rows: list[Row]) -> str:
    baseline = _BASELINES[_kind(row["contender"])]
    for base in rows:
        if base["contender"] == baseline and base is not row and "median_s" in row and _comparable(row, base):
            return f"{base['median_s'] / row['median_s']:.2f} × {baseline}"
    return ""


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


def _time(row: Row) -> dict[str, str]:
    if "not_run" in row:
        return {"median": f"not run: {row['not_run']}", "quartiles": "", "n": ""}
    return {
        "median": seconds(row["median_s"]),
        "quartiles": "" if row["repeats"] == 1 else f"{seconds(row['q1_s'])} – {seconds(row['q3_s'])}",
        "n": str(row["repeats"]),
    }


def _of_roofline(row: Row, ceilings: Sequence[Row]) -> str:
    machine = ("dtype", "device", "threads")
    found = [each for each in ceilings if values(each, *machine) == values(row, *machine)]
    if not found or "median_s" not in row or row["contender"].endswith("-layer"):
        return ""
    return f"{fraction(row, found[-1]):.0%}"


def _speed_of(row: Row) -> str:
    return f"{row['tokens_per_second']:,.0f}" if "tokens_per_second" in row else ""


def _bytes(row: Row, name: str) -> str:
    return format_bytes(row[name]) if name in row else ""


def _by_length(rows: Iterable[Row]) -> dict[int, float]:
    """Seconds a sequence by length."""
    return {row["seq_len"]: row["median_s"] / row["batch"] for row in rows}


def _name(row: Row) -> str:
    runs = row.get("runs")
    return f"{row['contender']} ({runs})" if runs and not row["contender"].endswith(runs) else row["contender"]


def _or_empty(value: object) -> str:
    return "" if value is None else str(value)


def _reading_order(row: Row) -> tuple[object, ...]:
    return (*values(row, "device", "dtype", "head_dim", "seq_len", "batch", "direction"), row.get("n_hashes") or 0)
