"""Rows for a reader: a table in Markdown (on a terminal: ``reformer.cli.tables``), seconds, and one row as a line of progress."""

from reformer.training.progress import format_bytes
from reproduction.rows import Row

Table = list[dict[str, str]]


def markdown(table: Table, keep_empty: bool = False) -> str:
    """The table, empty if it has no line; columns that are empty throughout are left out unless they are kept."""
    names = [name for name in table[0] if keep_empty or any(line[name] for line in table)] if table else []
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(line[name] for name in names)} |" for line in table]
    return "\n".join(lines) if table else ""


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
    shape = f"L={row['seq_len']:,} B={row['batch']}{rounds} {row['dtype']} {row['direction']}"
    what = f"{model}{kind}{shape}: {row['contender']}"
    if "not_run" in row:
        return f"{what}: not run: {row['not_run']}"
    if row.get("runs") not in (None, "", row["contender"].removeprefix("reformer-")):
        what += f" ({row['runs']})"
    found = [seconds(row["median_s"])]
    if row["repeats"] == 1 and not row.get("warmups"):
        found.append("once, not warmed up")
    if "tokens_per_second" in row:
        found.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    memory = {"peak": "peak_bytes", "activations": "activation_bytes"}
    found += [f"{name} {format_bytes(row[field])}" for name, field in memory.items() if field in row]
    return f"{what}: {', '.join(found)}"
