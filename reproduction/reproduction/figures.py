"""Curves as a drawing, PNG or SVG: the same bytes from the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0b4f8a", "#c8500a", "#2e8b57", "#8e6bbd", "#b8860b", "#5fa2ce", "#a0304a", "#555555")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """y by x, and between which values of y it lies."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves in the same units."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    log_axes: str = ""
    """The logarithmic axes: "", "x" (lengths: powers of two) or "xy"."""


def draw(panels: Sequence[Panel], path: Path) -> Path:
    """Draw the panels side by side into ``path``. Needs matplotlib."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5 if len(panels) == 1 else 6.0 * len(panels), 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_panel(axes, panel)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Ids from a fixed salt and no date: regenerating changes no byte.
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata=metadata)
    return path


def _draw_panel(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for index, curve in enumerate(panel.curves):
        colour = _COLOURS[index % len(_COLOURS)]
        # With more curves than colours, dashed from the second turn on.
        style = "o-" if index < len(_COLOURS) else "o--"
        axes.plot(curve.x, curve.y, style, markersize=3, linewidth=1.4, color=colour, label=curve.label)
        if list(curve.low) != list(curve.high):
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title)
    if "x" in panel.log_axes:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    if "y" in panel.log_axes:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    if len(panel.curves) > 5:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        axes.legend(frameon=False)


def _short(length: float) -> str:
    for size, unit in ((2**20, "M"), (2**10, "K")):
        if length >= size:
            return f"{length / size:g}{unit}"
    return f"{length:g}"
