"""Learning curves of an experiment as SVG: the same bytes from the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reformer.experiments.cells import Line
from reformer.experiments.experiment import Experiment

_COLOURS = ("#0b4f8a", "#c8500a", "#2e8b57", "#8e6bbd", "#b8860b", "#5fa2ce", "#a0304a", "#555555")
# x, and the least, the mean and the greatest y over the seeds.
_Curve = tuple[list[float], list[float], list[float], list[float]]


def draw_curves(experiment: Experiment, scale: str, found: Sequence[Line], folder: Path) -> Path | None:
    """``NAME-SCALE.svg``: a curve for each line, the mean over seeds with their range; None if no line has a curve."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    panels = _panels(experiment, scale, found)
    if experiment.curve is None or not panels:
        return None
    x_label, y_label = experiment.curve
    figure = Figure(figsize=(7.5 if len(panels) == 1 else 5.5 * len(panels), 4.5), layout="constrained")
    FigureCanvasSVG(figure)
    for place, (title, curves) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(
            1,
            len(panels),
            place,
            xlabel=x_label,
            ylabel=y_label,
            title=title if len(panels) > 1 else f"{experiment.name} ({scale})",
        )
        for index, (name, (x, low, mean, high)) in enumerate(curves.items()):
            colour, style = _look(index)
            axes.plot(x, mean, style, markersize=3, linewidth=1.4, color=colour, label=name)
            if low != high:
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        if "x" in experiment.log_axes:
            axes.set_xscale("log", base=2)
        if "y" in experiment.log_axes:
            axes.set_yscale("log")
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = drawing(experiment, scale, folder)
    # Ids from a fixed salt and no date: regenerating changes no byte.
    with matplotlib.rc_context({"svg.hashsalt": experiment.name}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    return path


def _look(index: int) -> tuple[str, str]:
    """Colour and style of a panel's curve: with more curves than colours, dashed from the second turn on."""
    return _COLOURS[index % len(_COLOURS)], "o-" if index < len(_COLOURS) else "o--"


def drawing(experiment: Experiment, scale: str, folder: Path) -> Path:
    """Where ``draw_curves`` draws."""
    return folder / f"{experiment.name}-{scale}.svg"


def _panels(experiment: Experiment, scale: str, found: Sequence[Line]) -> dict[str, dict[str, _Curve]]:
    """The curves by line, apart where lines fill other columns and so are in other units; a panel's title: those columns."""
    filled = {case.row: ", ".join(case.columns) for case in experiment.cases(scale, 0)}
    panels: dict[str, dict[str, _Curve]] = {}
    for line in found:
        if any(row.get("curve") for row in line.rows):
            panels.setdefault(filled.get(line.name, ""), {})[line.name] = _mean_curve(line)
    return panels


def _mean_curve(line: Line) -> _Curve:
    by_x: dict[float, list[float]] = {}
    for row in line.rows:
        for x, y in row.get("curve") or ():
            by_x.setdefault(x, []).append(y)
    points = sorted(by_x.items())
    return (
        [x for x, _ in points],
        [min(values) for _, values in points],
        [sum(values) / len(values) for _, values in points],
        [max(values) for _, values in points],
    )
