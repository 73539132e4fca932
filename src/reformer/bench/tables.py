"""Tables from rows: aligned text for a terminal, or Markdown for a document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from reformer.bench.contenders import ATTENTION
from reformer.bench.crossover import crossover
from reformer.bench.roofline import fraction
from reformer.bench.rows import Row, by
from reformer.bench.subject import BOTH
from reformer.training.progress import format_bytes

Table = list[dict[str, str]]

_SETTING = ("device", "threads", "dtype", "n_heads", "head_dim")
_SHAPE = (*_SETTING, "batch", "seq_len")
_HASHING = ("n_hashes", "chunk_len")
# What is compared with what: attention given q, k, v; whole layers with their projections; local attention.
OURS_BY_KIND = {"attention": "reformer", "layer": "reformer-layer", "local": "reformer-local"}
_BASELINES = {"attention": "sdpa", "layer": "transformers-layer", "local": "flex-local"}


def render(table: Table, *, markdown: bool = False) -> str:
    """The table, columns aligned; columns that are empty throughout are left out."""
    names = [name for name in table[0] if any(line[name] for line in table)] if table else []
    if markdown:
        lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
        return "\n".join(lines + [f"| {' | '.join(line[name] for name in names)} |" for line in table])
    widths = {name: max(len(name), *(len(line[name]) for line in table)) for name in names}
    head = {name: name for name in names}
    return "\n".join("  ".join(line[name].ljust(widths[name]) for name in names).rstrip() for line in [head, *table])


def seconds(value: float) -> str:
    """Seconds for a reader, to three digits: 12.3 s, 4.56 ms, 789 µs."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size or unit == "µs":
            scaled = value / size
            digits = 0 if scaled >= 100 else 1 if scaled >= 10 else 2
            return f"{scaled:,.{digits}f} {unit}"
    raise AssertionError("unreachable")


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
            "memory": "" if "extra_bytes" not in row else format_bytes(row["extra_bytes"]),
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
            "tokens/s": "" if "tokens_per_second" not in row else f"{row['tokens_per_second']:,.0f}",
            "peak": "" if "peak_bytes" not in row else format_bytes(row["peak_bytes"]),
            "activations": "" if "activation_bytes" not in row else format_bytes(row["activation_bytes"]),
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
            "tokens/s": "" if "tokens_per_second" not in row else f"{row['tokens_per_second']:,.0f}",
            "growth": _growth_of_a_token(row, rows),
        }
        for row in rows
    ]


def _growth_of_a_token(row: Row, rows: list[Row]) -> str:
    names = ("contender", "model", "batch", "device", "threads", "dtype")
    same = [r for r in rows if "median_s" in r and all(r[name] == row[name] for name in names)]
    if "median_s" not in row or len(same) < 2:
        return ""
    return f"{row['median_s'] / min(same, key=lambda r: r['seq_len'])['median_s']:.2f} ×"


def findings(rows: Iterable[Row]) -> list[str]:
    """Sentences: how many times as fast as each other contender, how time grows with length, and the crossover."""
    timed = sorted((row for row in rows if "median_s" in row), key=_reading_order)
    return [*_ratios(timed), *_growth(timed), *crossovers(timed)]


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
        if name not in OURS_BY_KIND.values():
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
    return (
        "median_s" in other
        and _kind(row["contender"]) == _kind(other["contender"])
        and all(row.get(name) == other.get(name) for name in (*_SHAPE, "direction"))
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
    found = [
        c for c in ceilings if (c["dtype"], c["device"], c["threads"]) == (row["dtype"], row["device"], row["threads"])
    ]
    if not found or "median_s" not in row or row["contender"].endswith("-layer"):
        return ""
    return f"{fraction(row, found[-1]):.0%}"


def _by_length(rows: Iterable[Row]) -> dict[int, float]:
    """Seconds a sequence by length."""
    return {row["seq_len"]: row["median_s"] / row["batch"] for row in rows}


def _name(row: Row) -> str:
    runs = row.get("runs")
    return f"{row['contender']} ({runs})" if runs and not row["contender"].endswith(runs) else row["contender"]


def _or_empty(value: object) -> str:
    return "" if value is None else str(value)


def _reading_order(row: Row) -> tuple:
    return (
        row["device"],
        row["dtype"],
        row["head_dim"],
        row["seq_len"],
        row["batch"],
        row["direction"],
        row.get("n_hashes") or 0,
    )
