"""Plots of the rows of ``inspect_model`` as PNG files: recall by rounds, distances, bucket sizes. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reformer.inspection.summary import distance_labels
from reformer.inspection.tables import SHARES, Row, by_layer, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FULL, _OWN = "#c8500a", "#0b5fa5"
_RECALL = {"mass": "#06305a", "top1": "#2f7ab5", "top8": "#5fa2ce", "top32": "#9ecae1"}
_COLUMNS = 3


def draw(rows: list[Row], folder: Path) -> list[Path]:
    """``recall.png``, ``buckets.png`` (both if there is an LSH layer) and ``distance.png``; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = list(by_layer(rows))
    hashed = [heads for heads in layers if heads[0]["kind"] == "lsh"]
    jobs = [("recall", hashed, _recall), ("distance", layers, _distance), ("buckets", hashed, _buckets)]
    return [_draw(folder / f"{name}.png", chosen, panel) for name, chosen, panel in jobs if chosen]


def _draw(path: Path, layers: list[list[Row]], panel: Any) -> Path:
    # Figure and canvas, not pyplot: a library must not change its user's backend or keep figures in global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, math.ceil(math.sqrt(len(layers))))
    lines = -(-len(layers) // columns)
    figure = Figure(figsize=(4.6 * columns + 1.4, 3.4 * lines), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(lines, columns, squeeze=False).flatten().tolist()
    for axes, heads in zip(every, layers):
        axes.set_title(f"Layer {heads[0]['layer']}, {heads[0]['kind']}", fontsize=11)
        panel(axes, heads)
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    for axes in every[len(layers) :]:
        axes.set_visible(False)
    figure.savefig(path)
    return path


def _recall(axes: Axes, heads: list[Row]) -> None:
    """Mean over heads, with the range of the heads; the share of keys seen is what a choice at random would recall."""
    rounds = [entry["rounds"] for entry in heads[0]["recall"]]
    for name, colour in _RECALL.items():
        by_head = [[entry[name] for entry in head["recall"]] for head in heads]
        axes.plot(rounds, _percents(by_head), "o-", markersize=4, color=colour, label=SHARES[name])
        if name == "mass":
            lowest, highest = ([100 * extreme(of_round) for of_round in zip(*by_head)] for extreme in (min, max))
            axes.fill_between(rounds, lowest, highest, color=colour, alpha=0.12, linewidth=0)
    keys = [[entry["keys"] for entry in head["recall"]] for head in heads]
    axes.plot(rounds, _percents(keys), ":", color="#777777", label="keys seen")
    own = len(heads[0]["occupancy"])
    axes.axvline(own, color="#bbbbbb", linewidth=1, zorder=0)
    axes.set_xticks(rounds)
    axes.set_ylim(0, 102)
    axes.set_xlabel(f"hash rounds (the model's: {own})")
    axes.set_ylabel("seen of full attention (%)")


def _distance(axes: Axes, heads: list[Row]) -> None:
    kind = heads[0]["kind"]
    named = [("distance_full", "full attention", _FULL)]
    named += [("distance_own", kind, _OWN)] if kind != "full" else []
    for name, label, colour in named:
        axes.plot(_percents([head[name] for head in heads]), "o-", markersize=3, color=colour, label=label)
    _label_bins(axes, len(heads[0]["distance_full"]))
    axes.set_xlabel("distance from query to key, at least")
    axes.set_ylabel("attention mass (%)")


def _buckets(axes: Axes, heads: list[Row]) -> None:
    entries = [entry for head in heads for entry in head["occupancy"]]
    longest = max(len(entry["histogram"]) for entry in entries)
    filled = [entry["histogram"] + [0.0] * (longest - len(entry["histogram"])) for entry in entries]
    effective, n_buckets = mean(entry["effective_buckets"] for entry in entries), entries[0]["n_buckets"]
    axes.bar(range(longest), _percents(filled), color=_OWN, label=f"effective {effective:.1f} of {n_buckets}")
    _label_bins(axes, longest)
    axes.set_xlabel("tokens in a bucket, at least")
    axes.set_ylabel("buckets, mean of heads and rounds (%)")


def _percents(lists: Sequence[Sequence[float]]) -> list[float]:
    return [100 * sum(column) / len(column) for column in zip(*lists)]


def _label_bins(axes: Axes, n_bins: int) -> None:
    labels = [label.split("-")[0] for label in distance_labels(n_bins)]
    step = 1 if n_bins <= 8 else 2
    axes.set_xticks(range(0, n_bins, step), labels[::step], fontsize=8)
    axes.set_ylim(bottom=0)
