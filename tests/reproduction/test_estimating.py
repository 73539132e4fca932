"""What a whole training would take, from one pass of it."""

import json

import pytest
import torch

from reproduction.experiments import estimating
from reproduction.experiments.estimating import FILE, estimate_experiment
from reproduction.experiments.experiment import short_id
from reproduction.experiments.registry import experiment
from reproduction.report.section import section
from reproduction.rows import read_rows


def cost(seconds, peak_bytes):
    return {"median_s": seconds, "peak_bytes": peak_bytes}


def estimate(tmp_path, name="recall", scale="smoke", rows=("noise: local only",), **options):
    return estimate_experiment(
        experiment(name), scale, results=tmp_path, command=["reformer", "reproduce", name], rows=rows, **options
    )


@pytest.mark.parametrize(
    ("name", "line", "passes"), [("recall", "noise: local only", 3), ("table4", "reversible", 3)], ids=str
)
def test_one_pass_of_each_training_is_measured_and_multiplied(tmp_path, name, line, passes):
    (row,) = estimate(tmp_path, name, rows=(line,))
    assert row["passes"] == passes
    assert row["seconds_per_pass"] > 0
    assert row["total_seconds"] == passes * row["seconds_per_pass"]
    assert row["peak_memory_bytes"] > 10 * 2**20
    assert read_rows(tmp_path / FILE) == [row]


def test_what_is_known_of_this_commit_and_machine_is_not_measured_again(tmp_path, monkeypatch):
    (row,) = estimate(tmp_path)
    monkeypatch.setattr(estimating, "measure_step", lambda *a, **k: pytest.fail("measured again"))
    assert estimate(tmp_path) == [row]
    # Another commit is another measurement.
    (tmp_path / FILE).write_text(json.dumps(row | {"code": row["code"] | {"commit": "else"}}) + "\n")
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        estimate(tmp_path)


def test_lines_that_take_the_same_pass_share_its_measurement(tmp_path, monkeypatch):
    """Equal steps and equal time differ in the number of passes alone."""
    (row,) = estimate(tmp_path, "baselines", rows=("local only",))
    monkeypatch.setattr(estimating, "measure_step", lambda *a, **k: cost(1e9, 0))
    (longer,) = estimate(tmp_path, "baselines", rows=("local only, equal time",))
    assert longer["seconds_per_pass"] == row["seconds_per_pass"]
    assert longer["peak_memory_bytes"] == row["peak_memory_bytes"]
    assert longer["total_seconds"] == longer["passes"] * row["seconds_per_pass"]
    (other,) = estimate(tmp_path, "baselines", rows=("full + local",))
    assert other["seconds_per_pass"] == 1e9


def test_many_layers_are_the_sum_of_what_one_and_two_of_each_kind_show(monkeypatch, tmp_path):
    """12 layers of two kinds from four small passes, each measured once whatever lines need it."""
    seen = []

    def measure_step(model, **options):
        seen.append(model.attention)
        (kind,) = set(model.attention)
        per_layer, once = {"local": (2.0, 0.5), "lsh": (3.0, 0.7), "full": (50.0, 0.6)}[kind]
        kept, room = {"local": (10, 1000), "lsh": (20, 1500), "full": (10, 1200)}[kind]
        depth = len(model.attention)
        return cost(per_layer * depth + once, kept * depth + room)

    monkeypatch.setattr(estimating, "measure_step", measure_step)
    mixed, local = estimate(tmp_path, "baselines", "paper", rows=("lsh + local", "local only"))
    assert seen == [("local",), ("local",) * 2, ("lsh",), ("lsh",) * 2]
    assert mixed["seconds_per_pass"] == pytest.approx(8 * 2.0 + 4 * 3.0 + (0.5 + 0.7) / 2)
    assert mixed["peak_memory_bytes"] == 8 * 10 + 4 * 20 + 1500
    assert mixed["total_seconds"] == mixed["passes"] * mixed["seconds_per_pass"]
    assert local["seconds_per_pass"] == pytest.approx(12 * 2.0 + 0.5)
    assert local["peak_memory_bytes"] == 12 * 10 + 1000
    # The same training by another name.
    estimate(tmp_path, "context", "paper", rows=("lsh + local",))
    assert len(seen) == 4
    text = section(experiment("baselines"), read_rows(tmp_path / FILE), [])
    assert f"| lsh + local | {mixed['passes']:,} | 28.6 s, from parts |" in text
    assert "From parts: from passes of one and of two layers of each kind" in text


def test_long_full_attention_is_continued_from_shorter_sequences(monkeypatch, tmp_path):
    """What grows with the length and what with its square are found again, of layers and of whole models."""
    seen = []

    def seconds(kinds, length):
        return sum({"local": 2e-5 * length, "full": 3e-5 * length + 1e-8 * length**2}[kind] for kind in kinds)

    def measure_step(model, seq_len, **options):
        seen.append((model.attention, seq_len))
        return cost(seconds(model.attention, seq_len), 1_000_000 + 100 * seq_len * len(model.attention))

    monkeypatch.setattr(estimating, "measure_step", measure_step)
    monkeypatch.setattr(estimating, "chosen_device", lambda name: torch.device("cpu"))
    (whole,) = estimate(tmp_path, "figure3", "paper", rows=("enwik8, shared QK, reversible",))
    assert seen == [(("full",) * 3, 8192), (("full",) * 3, 16_384)]
    assert whole["seconds_per_pass"] == pytest.approx(seconds(("full",) * 3, 65_536))
    assert whole["peak_memory_bytes"] == 1_000_000 + 100 * 65_536 * 3
    (deep,) = estimate(tmp_path, "baselines", "paper", rows=("full + local",))
    local, full = (
        [(("local",) * n, 65_536) for n in (1, 2)],
        [(("full",) * n, k) for n in (1, 2) for k in (8192, 16_384)],
    )
    assert seen[2:] == [*local, *full]
    assert deep["seconds_per_pass"] == pytest.approx(seconds(("full",) * 4 + ("local",) * 8, 65_536))
    assert deep["peak_memory_bytes"] == 1_000_000 + 100 * 65_536 * 12
    # An accelerator does all of it in seconds.
    monkeypatch.setattr(estimating, "chosen_device", lambda name: torch.device("cuda"))
    (tmp_path / FILE).unlink()
    estimate(tmp_path, "figure3", "paper", rows=("enwik8, shared QK, reversible",))
    assert seen[8:] == [(("full",) * 3, 65_536)]


def test_a_kill_between_two_parts_loses_neither(monkeypatch, tmp_path):
    seen = []

    def measure_step(model, **options):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(model.attention)
        return cost(1.0, 2**20)

    monkeypatch.setattr(estimating, "measure_step", measure_step)
    with pytest.raises(KeyboardInterrupt):
        estimate(tmp_path, "baselines", "paper", rows=("lsh + local",))
    assert len(seen) == 3
    assert "what it would take" not in section(experiment("baselines"), read_rows(tmp_path / FILE), [])
    (local,) = estimate(tmp_path, "baselines", "paper", rows=("local only",))
    assert len(seen) == 3, "a part of another line was measured again"
    assert local["seconds_per_pass"] == 1.0


def test_an_experiment_without_trainings_says_so(tmp_path):
    with pytest.raises(ValueError, match="claims at gpu has no training to estimate"):
        estimate(tmp_path, "claims", "gpu", rows=())


def test_the_report_shows_estimates_where_nothing_was_run(tmp_path):
    (row,) = estimate(tmp_path)
    recall = experiment("recall")
    row |= {"scale": "gpu", "passes": 1000, "seconds_per_pass": 86.4, "total_seconds": 86_400.0}
    assert "86.4 s" not in section(recall, [row], []), "a pass of another config stands beside this one's steps"
    row["config_id"] = next(short_id(case.config) for case in recall.cases("gpu", 0) if case.row == row["row"])
    text = section(recall, [row], [])
    assert "recall, gpu: not run" in text
    assert "| noise: local only | 1,000 | 86.4 s | 1.0 days |" in text
    assert "recall, laptop: not run" in text


def test_passes_are_steps_times_those_accumulated(monkeypatch, tmp_path):
    monkeypatch.setattr(estimating, "measure_step", lambda *a, **k: cost(2.0, 2**30))
    (row,) = estimate(tmp_path, "figure4", "paper", rows=("8 rounds",))
    assert (row["passes"], row["total_seconds"]) == (500_000 * 8, 8_000_000.0)
