"""``reformer bench report``: tables and plots of a document, made from the rows.

A block of the document between ``<!-- bench:NAME -->`` and ``<!-- /bench:NAME -->`` is replaced; NAME is one of BLOCKS.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from reformer.training.checkpoint import write_durably
from reformer.training.progress import format_bytes
from reproduction.benchmarks.plots import draw_plots
from reproduction.benchmarks.subject import BOTH
from reproduction.benchmarks.tables import attention_table, crossovers, decode_table, findings, step_table
from reproduction.rows import Row, latest, read_rows
from reproduction.tables import Table, render

BLOCKS = ("summary", "attention", "findings", "crossover", "model", "memory", "decode", "ceilings", "hardware", "plots")
_NOTHING = "Not measured yet."


def write_report(source: Path, document: Path, plots: Path) -> list[Path]:
    """Fill the blocks of ``document`` and draw the plots; the files written.

    Raises ValueError for a block of an unknown name or without an end.
    """
    text = document.read_text()
    _check_blocks(document, text)
    rows = latest(read_rows(source))
    drawn = draw_plots(rows, plots)
    links = [f"![{path.stem}]({os.path.relpath(path, document.parent)})" for path in drawn]

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        content = "\n\n".join(links) if name == "plots" else content_of(name, rows)
        return f"<!-- bench:{name} -->\n{content or _NOTHING}\n<!-- /bench:{name} -->"

    filled = re.sub(r"<!-- bench:(?P<name>[\w-]+) -->.*?<!-- /bench:(?P=name) -->", block, text, flags=re.DOTALL)
    write_durably(document, filled.encode())
    return [document, *drawn]


def content_of(name: str, rows: Iterable[Row]) -> str:
    """The Markdown of a block, empty if there is no row for it."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(row["benchmark"], []).append(row)
    attention, ceilings = kinds.get("attention", []), kinds.get("ceilings", [])
    if name == "summary":
        return _markdown(attention_table(filter(_tells_most, attention), ceilings))
    if name == "attention":
        return _markdown(attention_table(attention, ceilings))
    if name in ("findings", "crossover"):
        sentences = findings(attention) if name == "findings" else crossovers(attention)
        return "\n".join(f"- {sentence}" for sentence in sentences)
    if name in ("model", "memory"):
        return _markdown(step_table(kinds.get(name, [])))
    if name == "decode":
        return _markdown(decode_table(kinds.get(name, [])))
    if name == "ceilings":
        return _markdown([_ceiling(row) for row in ceilings])
    return "\n".join(f"- {line}" for line in dict.fromkeys(_origin(row) for group in kinds.values() for row in group))


def _tells_most(row: Row) -> bool:
    """Rows of a summary: forward and backward, four rounds (or full attention), every other length from 4,096 on."""
    return (
        row["direction"] == BOTH
        and row["seq_len"] in (4096, 16_384, 65_536, 262_144, 1_048_576)
        and row["batch"] == 1
        and row.get("n_hashes") in (None, 4)
    )


def _check_blocks(document: Path, text: str) -> None:
    marks = re.findall(r"<!-- (/?)bench:([\w-]+) -->", text)
    for name in dict.fromkeys(name for _, name in marks):
        if name not in BLOCKS:
            raise ValueError(f"{document}: unknown block bench:{name}; blocks: {', '.join(BLOCKS)}")
    openings, ends = marks[::2], marks[1::2]
    if ends != [("/", name) for _, name in openings] or any(slash for slash, _ in openings):
        raise ValueError(f"{document}: every <!-- bench:NAME --> needs its <!-- /bench:NAME --> before the next one")


def _ceiling(row: Row) -> dict[str, str]:
    return {
        "device": row["device"],
        "threads": str(row["threads"]),
        "dtype": row["dtype"],
        "product": f"{row['flops_per_s'] / 1e9:,.0f} GFLOP/s",
        "copy": f"{format_bytes(row['bytes_per_s'])}/s",
    }


def _origin(row: Row) -> str:
    hardware, software, code = row["hardware"], row["software"], row["code"]
    machine = ", ".join(hardware["gpus"]) if row.get("device") == "cuda" else hardware["cpu"]
    versions = [f"torch {software['torch']}", f"Python {software['python']}"]
    versions += [f"{name} {software[name]}" for name in ("transformers", "reformer-pytorch") if name in software]
    commit = str(code["commit"])[:12] + (" with changes" if code["dirty"] else "")
    threads = row.get("threads", hardware["torch_threads"])
    return (
        f"{row['benchmark']}: {machine}, {threads} threads; {', '.join(versions)}; commit {commit}; {row['date'][:10]}"
    )


def _markdown(table: Table) -> str:
    return render(table, markdown=True) if table else ""
