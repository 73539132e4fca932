import json
import sys

import pytest

from reformer.training.plots import plot_curves, smooth

pytest.importorskip("matplotlib")


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def train(step, **values):
    return {
        "step": step,
        "kind": "train",
        "metric": "bits per dim",
        "value": 8 / step,
        "lr": 1e-3,
        "tokens_per_second": 3e3,
        **values,
    }


def names(paths):
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5_000
    return [path.name for path in paths]


ALWAYS = ["loss.png", "learning_rate.png", "tokens_per_second.png"]


def test_a_run_gives_three_curves_and_a_fourth_with_accuracy(tmp_path):
    records = [train(step) for step in range(1, 200)]
    records += [{"step": step, "kind": "validation", "value": 9 / step} for step in (50, 100)]
    assert names(plot_curves(write(tmp_path / "metrics.jsonl", records), tmp_path / "plots")) == ALWAYS
    records += [{"step": 150, "kind": "validation", "value": 1.0, "accuracy": 0.5}]
    paths = plot_curves(write(tmp_path / "metrics.jsonl", records), tmp_path / "plots")
    assert names(paths) == [*ALWAYS, "accuracy.png"]


@pytest.mark.parametrize("count", [1, 2])
def test_few_records_and_non_finite_ones(tmp_path, count):
    records = [train(step, value="NaN" if step == 2 else 3.0) for step in range(1, count + 1)]
    assert names(plot_curves(write(tmp_path / "metrics.jsonl", records), tmp_path)) == ALWAYS


def test_what_was_never_recorded_has_no_plot(tmp_path):
    assert plot_curves(write(tmp_path / "metrics.jsonl", []), tmp_path / "plots") == []
    only = [{"step": 1, "kind": "validation", "value": 2.0}, {"step": 2, "kind": "train", "lr": "NaN"}]
    assert names(plot_curves(write(tmp_path / "metrics.jsonl", only), tmp_path)) == ["loss.png"]


def test_the_curves_are_the_recorded_values(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = {}

    def keep(figure, path, **_):
        drawn[path.stem] = figure.axes[0]

    monkeypatch.setattr(Figure, "savefig", keep)
    records = [train(step, accuracy=0.25) for step in range(1, 101)]
    records += [{"step": 50, "kind": "validation", "value": 2.0}]
    plot_curves(write(tmp_path / "metrics.jsonl", records), tmp_path)
    loss = {line.get_label(): line for line in drawn["loss"].lines}
    assert loss.keys() == {"train, each record", "train, smoothed", "validation"}
    assert list(loss["train, each record"].get_ydata()) == [8 / step for step in range(1, 101)]
    assert loss["validation"].get_xydata().tolist() == [[50, 2.0]]
    assert (drawn["loss"].get_xlabel(), drawn["loss"].get_ylabel()) == ("step", "loss (bits per dim)")
    assert drawn["accuracy"].get_ylabel() == "accuracy (%)"
    assert set(drawn["accuracy"].lines[0].get_ydata()) == {25.0}


def test_drawing_leaves_pyplot_alone(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    plot_curves(write(tmp_path / "metrics.jsonl", [train(1)]), tmp_path)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_smoothing_averages_without_lag():
    assert smooth([]) == []
    assert smooth([1.0, 3.0]) == [1.0, 3.0]  # too few to smooth
    falling = [500.0 - step for step in range(500)]
    assert smooth(falling)[5:-5] == pytest.approx(falling[5:-5])
    assert smooth([0.0, 1.0] * 250) == pytest.approx([0.5] * 500, abs=0.08)
