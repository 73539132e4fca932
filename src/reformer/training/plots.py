"""Curves of a run as PNG files, from its metrics file."""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reformer.training.metrics import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRAIN, _VALIDATION, _RAW = "#0b5fa5", "#c8500a", "#a9c6e0"

Points = list[tuple[int, float]]


def plot_curves(metrics_path: Path, out_dir: Path) -> list[Path]:
    """Draw loss, learning rate, tokens per second and, where recorded, accuracy against the step.

    Writes ``loss.png``, ``learning_rate.png``, ``tokens_per_second.png`` and ``accuracy.png`` into ``out_dir`` and
    returns those written: a quantity without a finite value has none. Needs matplotlib.
    """
    records = read_metrics(metrics_path)
    metric = next((record["metric"] for record in reversed(records) if "metric" in record), "bits per byte")
    curves = [
        ("loss", f"loss ({metric})", _series(records, "value"), False),
        ("learning_rate", "learning rate", _series(records, "lr"), True),
        ("tokens_per_second", "tokens per second", _series(records, "tokens_per_second"), True),
        ("accuracy", "accuracy (%)", _series(records, "accuracy", scale=100), True),
    ]
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    return [
        _draw(out_dir / f"{name}.png", label, series, from_zero)
        for name, label, series, from_zero in curves
        if any(series.values())
    ]


def smooth(values: Sequence[float]) -> list[float]:
    """Centred moving mean over about a fiftieth of the points, over what there is of them at the ends.

    Centred, because an average of the past alone lags behind a falling loss and would sit above the validation points.
    """
    sums, half = [0.0, *accumulate(values)], len(values) // 100
    windows = [(max(index - half, 0), min(index + half + 1, len(values))) for index in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in windows]


def _series(records: list[dict[str, Any]], field: str, scale: float = 1) -> dict[str, Points]:
    series: dict[str, Points] = {}
    for record in records:
        value = record.get(field)
        if isinstance(value, int | float) and math.isfinite(value):
            series.setdefault(record.get("kind", "train"), []).append((record["step"], value * scale))
    return series


def _draw(path: Path, label: str, series: dict[str, Points], from_zero: bool) -> Path:
    # Figure and canvas, not pyplot: a library must not change its user's backend or keep figures in global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel=label, title=path.stem.replace("_", " ").capitalize())
    for kind, points in series.items():
        _plot_kind(axes, kind, points, raw=label.startswith("loss"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    if from_zero:
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(path)
    return path


def _plot_kind(axes: "Axes", kind: str, points: Points, raw: bool) -> None:
    steps, values = zip(*points)
    # A line through one point shows nothing.
    marker = "o" if len(points) == 1 else ""
    if kind != "train":
        color = _VALIDATION if kind == "validation" else None
        axes.plot(steps, values, "o-", markersize=4, linewidth=1, color=color, label=kind)
    elif raw and len(points) > 50:
        axes.plot(steps, values, linewidth=0.7, color=_RAW, label="train, each record")
        axes.plot(steps, smooth(values), linewidth=1.8, color=_TRAIN, label="train, smoothed")
    else:
        axes.plot(steps, values, linewidth=1.8, marker=marker, color=_TRAIN, label="train")
