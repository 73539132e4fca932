"""Plots of the attention benchmark: time by length, of a fixed batch or of as many tokens (the paper's figure 5, right)."""

from collections.abc import Iterable
from pathlib import Path

from reproduction.benchmarks.subject import BOTH
from reproduction.experiments.figure5_right import PAPER, PAPER_LENGTHS
from reproduction.figures import Curve, Panel, draw
from reproduction.rows import Row, by


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
