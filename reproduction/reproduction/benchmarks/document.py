"""``reformer bench report``: tables and plots of a document, made from the rows.

A block of the document between ``<!-- bench:NAME -->`` and ``<!-- /bench:NAME -->`` is replaced; NAME is one of BLOCKS.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from reformer.training.checkpoint import write_durably
from reproduction.benchmarks.attention import BOTH
from reproduction.benchmarks.tables import bench_table, crossovers, findings
from reproduction.experiments.figure5_right import PAPER, PAPER_LENGTHS
from reproduction.figures import Curve, Panel, draw
from reproduction.rows import Row, by, latest, read_rows
from reproduction.tables import markdown

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
    kinds = {kind: group for (kind,), group in by(rows, "benchmark")}
    attention, ceilings = kinds.get("attention", []), kinds.get("ceilings", [])
    match name:
        case "summary":
            return markdown(bench_table(filter(_tells_most, attention), ceilings))
        case "findings":
            lines = findings(attention)
        case "crossover":
            lines = crossovers(attention)
        case "hardware":
            lines = list(dict.fromkeys(_origin(row) for group in kinds.values() for row in group))
        case _:
            return markdown(bench_table(kinds.get(name, []), ceilings))
    return "\n".join(f"- {line}" for line in lines)


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


def draw_plots(rows: Iterable[Row], folder: Path) -> list[Path]:
    """``figure5-*.png`` and ``attention-*.png``, as far as there are rows; the files written."""
    timed = [row for row in rows if row["benchmark"] == "attention" and "median_s" in row and row["direction"] == BOTH]
    # One implementation of ours is enough, and layers and local attention are no rivals.
    timed = [row for row in timed if row["contender"] == "reformer" or not row["contender"].endswith(_NOT_DRAWN)]
    written = []
    for (device, dtype, heads, width), group in by(timed, "device", "dtype", "n_heads", "head_dim"):
        name = f"{device}-{dtype}-{heads}x{width}"
        for (tokens,), steps in by(({**row, "tokens": row["batch"] * row["seq_len"]} for row in group), "tokens"):
            if curves := _curves(steps):
                here = _panel(f"Here: one attention, forward and backward, {tokens:,} tokens", curves)
                papers = [Curve(label=name, x=PAPER_LENGTHS, y=seconds) for name, seconds in PAPER.items()]
                paper = _panel("Paper, figure 5 right: whole step, 32,768 tokens", papers)
                written.append(draw([here, paper], folder / f"figure5-{name}-{tokens}.png"))
        for (batch,), lengths in by(group, "batch"):
            if curves := _curves(lengths):
                panel = _panel(f"One attention, forward and backward, batch {batch}", curves)
                written.append(draw([panel], folder / f"attention-{name}-batch{batch}.png"))
    return written


_NOT_DRAWN = ("-layer", "-local", "-native", "-eager", "-triton")


def _panel(title: str, curves: list[Curve]) -> Panel:
    return Panel(title=title, x_label="length", y_label="seconds", curves=curves, log_axes="xy")


def _curves(rows: list[Row]) -> list[Curve]:
    """Of each contender, number of rounds and chunk length. A point or two are a remnant of another sweep."""
    chunks = {row["chunk_len"] for row in rows} - {None}
    found = {}
    for (name, rounds, chunk_len), curve in by(rows, "contender", "n_hashes", "chunk_len"):
        points = sorted((row["seq_len"], row["median_s"], row["q1_s"], row["q3_s"]) for row in curve)
        label = name if rounds is None else f"{name}, LSH-{rounds}"
        label += f", chunk {chunk_len}" if chunk_len is not None and len(chunks) > 1 else ""
        if len(points) > 2:
            lengths, medians, low, high = zip(*points)
            found[label] = Curve(label=label, x=lengths, y=medians, low=low, high=high)
    return [found[label] for label in sorted(found)]
