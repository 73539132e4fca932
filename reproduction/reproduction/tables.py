"""Rows for a reader: a table as aligned text or Markdown, seconds, and one row as a line of progress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reformer.training.progress import format_bytes
from reproduction.rows import Row

Table = list[dict[str, str]]


def table_of(head: Sequence[str], lines: Iterable[Sequence[str]]) -> Table:
    """Lines with one value for each name of ``head``."""
    return [dict(zip(head, line, strict=True)) for line in lines]


def render(table: Table, *, markdown: bool = False, keep_empty: bool = False) -> str:
    """The table, columns aligned or in Markdown; columns that are empty throughout are left out unless they are kept."""
    names = [name for name in table[0] if keep_empty or any(line[name] for line in table)] if table else []
    if markdown:
        lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
        return "\n".join(lines + [f"| {' | '.join(line[name] for name in names)} |" for line in table])
    widths = {name: max(len(name), *(len(line[name]) for line in table)) for name in names}
    head = {name: name for name in names}
    return "\n".join("  ".join(line[name].ljust(widths[name]) for name in names).rstrip() for line in [head, *table])


def seconds(value: float) -> str:
    """Seconds for a reader, to three digits: 12.3 s, 4.56 ms, 789 µs."""
    unit, size = next((each for each in (("s", 1.0), ("ms", 1e-3)) if value >= each[1]), ("µs", 1e-6))
    scaled = value / size
    digits = 0 if scaled >= 100 else 1 if scaled >= 10 else 2
    return f"{scaled:,.{digits}f} {unit}"


def describe(row: Row) -> str:
    """The row of a benchmark as a line of progress."""
    model = f"{row['model']}, {row['layers']} layers, " if "model" in row else ""
    kind = "" if row.get("reversible") is None else "reversible, " if row["reversible"] else "ordinary, "
    rounds = f" R={row['n_hashes']}" if row.get("n_hashes") is not None else ""
    what = f"{model}{kind}L={row['seq_len']:,} B={row['batch']}{rounds} {row['dtype']} {row['direction']}: {row['contender']}"
    if "not_run" in row:
        return f"{what}: not run: {row['not_run']}"
    if row.get("runs") not in (None, "", row["contender"].removeprefix("reformer-")):
        what += f" ({row['runs']})"
    found = [seconds(row["median_s"])]
    if row["repeats"] == 1 and not row.get("warmups"):
        found.append("once, not warmed up")
    if "tokens_per_second" in row:
        found.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    found += [
        f"{name} {format_bytes(row[field])}"
        for name, field in (("peak", "peak_bytes"), ("activations", "activation_bytes"))
        if field in row
    ]
    return f"{what}: {', '.join(found)}"
