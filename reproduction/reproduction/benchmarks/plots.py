"""Plots of the attention benchmark: time by length, of a fixed batch or of as many tokens (the paper's figure 5, right)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reproduction.benchmarks.subject import BOTH
from reproduction.experiments.figure5_right import PAPER, PAPER_LENGTHS
from reproduction.figures import Curve, Panel, draw
from reproduction.rows import Row, by

# One hue for ours, from one round (light) to many (dark); others in their own.
_BLUES = ("#9ecae1", "#5fa2ce", "#2f7ab5", "#0b4f8a", "#06305a")
_COLOURS = {
    "sdpa": "#c8500a",
    "sdpa-flash": "#e08a3c",
    "sdpa-cudnn": "#8a3b00",
    "transformers": "#2e8b57",
    "reformer-pytorch": "#8e6bbd",
}
# Of the other Reformers, by rounds.
_STYLES = ("--", ":", "-.", "-")
_LABELS = {"sdpa": "full attention (torch)", "sdpa-flash": "full (FlashAttention)", "sdpa-cudnn": "full (cuDNN)"}


def draw_plots(rows: Iterable[Row], folder: Path) -> list[Path]:
    """``figure5-*.png`` and ``attention-*.png``, as far as there are rows; the files written."""
    timed = [row for row in rows if row["benchmark"] == "attention" and "median_s" in row and row["direction"] == BOTH]
    timed = [row for row in timed if row["contender"] == "reformer" or row["contender"] in _COLOURS]
    written = []
    for (device, dtype, heads, width), group in by(timed, "device", "dtype", "n_heads", "head_dim"):
        name = f"{device}-{dtype}-{heads}x{width}"
        for (tokens,), steps in by(({**row, "tokens": row["batch"] * row["seq_len"]} for row in group), "tokens"):
            if len({row["seq_len"] for row in steps}) > 2:
                here = _panel(f"Here: one attention, forward and backward, {tokens:,} tokens", _curves(steps))
                paper = _panel("Paper, figure 5 right: whole step, 32,768 tokens", _papers())
                written.append(draw([here, paper], folder / f"figure5-{name}-{tokens}.png"))
        for (batch,), lengths in by(group, "batch"):
            if len({row["seq_len"] for row in lengths}) > 2:
                panel = _panel(f"One attention, forward and backward, batch {batch}", _curves(lengths))
                written.append(draw([panel], folder / f"attention-{name}-batch{batch}.png"))
    return written


def _panel(title: str, curves: list[Curve]) -> Panel:
    # In the order of the right ends of the curves, slowest first.
    slowest_first = sorted(curves, key=lambda curve: -curve.y[-1])
    return Panel(title=title, x_label="length", y_label="seconds", curves=slowest_first, log_axes="xy")


def _papers() -> list[Curve]:
    shades = dict(zip(("LSH-1", "LSH-2", "LSH-4", "LSH-8"), _BLUES))
    return [
        Curve(label=name, x=PAPER_LENGTHS, y=values, colour=shades.get(name, _COLOURS["sdpa"]))
        for name, values in PAPER.items()
    ]


def _curves(rows: list[Row]) -> list[Curve]:
    rounds_shown = sorted({row["n_hashes"] for row in rows if row["contender"] == "reformer"})
    chunks = {row["chunk_len"] for row in rows} - {None}
    found = []
    for (name, rounds, chunk_len), curve in by(rows, "contender", "n_hashes", "chunk_len"):
        points = sorted((row["seq_len"], row["median_s"], row["q1_s"], row["q3_s"]) for row in curve)
        # A point or two are a remnant of another sweep.
        if len(points) < 3:
            continue
        lengths, medians, lower, upper = zip(*points)
        place = rounds_shown.index(rounds) if rounds in rounds_shown else 0
        found.append(
            Curve(
                label=_label(name, rounds)
                + (f", chunk {chunk_len}" if chunk_len is not None and len(chunks) > 1 else ""),
                x=lengths,
                y=medians,
                low=lower,
                high=upper,
                colour=_BLUES[min(place, len(_BLUES) - 1)] if name == "reformer" else _COLOURS[name],
                style="-" if name == "reformer" or rounds is None else _STYLES[place % len(_STYLES)],
            )
        )
    return found


def _label(name: str, rounds: int | None) -> str:
    if name == "reformer":
        return f"LSH-{rounds}"
    return _LABELS.get(name) or f"{name}, {rounds} round{'' if rounds == 1 else 's'}"
