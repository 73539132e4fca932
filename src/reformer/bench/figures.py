"""Plots from rows: time by length at a fixed number of tokens (the paper's figure 5, right), and time by length."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reformer.bench.rows import Row, by
from reformer.bench.subject import BOTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
# The paper, digitised to ±3%: hardware not stated, whole training steps of 32,768 tokens.
PAPER_LENGTHS = (1024, 2048, 4096, 8192, 16_384, 32_768)
PAPER = {
    "full": (0.17, 0.30, 0.48, 0.98, 1.9, 3.5),
    "LSH-8": (0.32, 0.29, 0.28, 0.30, 0.355, 0.44),
    "LSH-4": (0.205, 0.18, 0.16, 0.16, 0.19, 0.23),
    "LSH-2": (0.15, 0.12, 0.11, 0.10, 0.11, 0.135),
    "LSH-1": (0.10, 0.083, 0.072, 0.068, 0.071, 0.075),
}


def draw(rows: Iterable[Row], folder: Path) -> list[Path]:
    """``figure5-*.png`` and ``attention-*.png``, as far as there are rows; the files written. Needs matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    timed = [row for row in rows if row["benchmark"] == "attention" and "median_s" in row and row["direction"] == BOTH]
    timed = [row for row in timed if row["contender"] == "reformer" or row["contender"] in _COLOURS]
    written = []
    for (device, dtype, heads, width), group in by(timed, "device", "dtype", "n_heads", "head_dim"):
        name = f"{device}-{dtype}-{heads}x{width}"
        for (tokens,), steps in by(({**row, "tokens": row["batch"] * row["seq_len"]} for row in group), "tokens"):
            if len({row["seq_len"] for row in steps}) > 2:
                written.append(_figure5(steps, tokens, folder / f"figure5-{name}-{tokens}.png"))
        for (batch,), lengths in by(group, "batch"):
            if len({row["seq_len"] for row in lengths}) > 2:
                written.append(_by_length(lengths, folder / f"attention-{name}-batch{batch}.png"))
    return written


def _figure5(rows: list[Row], tokens: int, path: Path) -> Path:
    figure, (left, right) = _canvas(2)
    _curves(left, rows)
    _finish(left, f"Here: one attention, forward and backward, {tokens:,} tokens")
    left.set_xlabel("length (batch × length is fixed)")
    shades = dict(zip(("LSH-1", "LSH-2", "LSH-4", "LSH-8"), _BLUES))
    for name, values in PAPER.items():
        right.plot(PAPER_LENGTHS, values, "o-", markersize=4, color=shades.get(name, _COLOURS["sdpa"]), label=name)
    _finish(right, "Paper, figure 5 right: whole step, 32,768 tokens")
    right.set_xlabel("length (batch × length is fixed)")
    figure.savefig(path)
    return path


def _by_length(rows: list[Row], path: Path) -> Path:
    figure, (axes,) = _canvas(1)
    _curves(axes, rows)
    _finish(axes, f"One attention, forward and backward, batch {rows[0]['batch']}")
    axes.set_xlabel("length")
    figure.savefig(path)
    return path


def _canvas(panels: int):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.6 * panels, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _curves(axes: Axes, rows: list[Row]) -> None:
    rounds_shown = sorted({row["n_hashes"] for row in rows if row["contender"] == "reformer"})
    chunks = {row["chunk_len"] for row in rows} - {None}
    for (name, rounds, chunk_len), curve in by(rows, "contender", "n_hashes", "chunk_len"):
        points = sorted((row["seq_len"], row["median_s"], row["q1_s"], row["q3_s"]) for row in curve)
        # A point or two are a remnant of another sweep.
        if len(points) < 3:
            continue
        lengths, medians, lower, upper = zip(*points)
        place = rounds_shown.index(rounds) if rounds in rounds_shown else 0
        colour = _BLUES[min(place, len(_BLUES) - 1)] if name == "reformer" else _COLOURS.get(name)
        style = "-" if name == "reformer" or rounds is None else _STYLES[place % len(_STYLES)]
        label = _label(name, rounds) + (f", chunk {chunk_len}" if chunk_len is not None and len(chunks) > 1 else "")
        axes.plot(lengths, medians, marker="o", linestyle=style, markersize=4, color=colour, label=label)
        axes.fill_between(lengths, lower, upper, color=colour, alpha=0.15, linewidth=0)


def _label(name: str, rounds: int | None) -> str:
    if name == "reformer":
        return f"LSH-{rounds}"
    return _LABELS.get(name) or f"{name}, {rounds} round{'' if rounds == 1 else 's'}"


def _finish(axes: Axes, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("seconds")
    axes.set_title(title, fontsize=11)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    # In the order of the right ends of the curves, slowest first.
    lines: list[Any] = sorted(axes.get_lines(), key=lambda line: -line.get_ydata()[-1])
    labels = [line.get_label() for line in lines]
    axes.legend(lines, labels, frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _short(length: float) -> str:
    for size, unit in ((2**20, "M"), (2**10, "K")):
        if length >= size:
            return f"{length / size:g}{unit}"
    return f"{length:g}"
