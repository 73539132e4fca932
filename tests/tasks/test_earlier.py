"""Runs that commit aeaf91f wrote, when every task's settings and values had the names of text (``written_before/``)."""

import json
from pathlib import Path

import pytest

from reformer.tasks.earlier import current_config, current_row
from reformer.tasks.protocol import Evaluated, Measurement
from reformer.tasks.registry import CONFIGS, RECIPES, config_from_dict
from reformer.training.metrics import read_metrics
from reformer.training.results import add_results
from reformer.training.run_directory import claim, open_run
from reproduction.experiments.known_by import earlier_config

FOLDER = Path(__file__).parent / "written_before"
# What an evaluation took, under the name and in the unit that it has now.
AMOUNTS = {
    "text": ("eval_bytes", 256),
    "recall": ("eval_sequences", 4),
    "duplication": ("eval_sequences", 4),
    "images": ("eval_pictures", 2),  # 500 bytes were whole pictures of 192
    "translation": ("eval_bytes", 200),
    "packed-translation": ("eval_bytes", 200),
}


def written(task: str) -> dict:
    return json.loads((FOLDER / f"{task}.json").read_text())


def test_every_task_of_then_has_a_run_here():
    assert AMOUNTS.keys() == {path.stem for path in FOLDER.iterdir()}
    assert AMOUNTS.keys() <= CONFIGS.keys()


@pytest.mark.parametrize("task", AMOUNTS)
def test_a_config_of_then_opens_and_resumes_as_todays(tmp_path, task):
    then = written(task)["config.json"]
    (tmp_path / "config.json").write_text(json.dumps(then))
    config = open_run(tmp_path).config
    assert type(config) is CONFIGS[task]
    name, amount = AMOUNTS[task]
    assert getattr(config, name) == amount
    for name in ("name", "seq_len", "steps", "seed", "accumulate", "keep_last"):
        assert getattr(config, name) == then["config"][name]
    assert config.as_dict()["optimizer"] == then["config"]["optimizer"]
    # The same config asked for again is no other: the run may be resumed.
    run = claim(tmp_path, config, resume=True)
    assert run is not None and run.config == config


@pytest.mark.parametrize("task", AMOUNTS)
def test_values_of_then_are_measurements_with_a_unit(tmp_path, task):
    then = written(task)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in then["metrics.jsonl"]))
    train, validation = read_metrics(tmp_path / "metrics.jsonl")
    old_train, old_validation = then["metrics.jsonl"]
    assert (train["value"], train["loss"]) == (old_train["bits_per_byte"], old_train["loss"])
    assert validation["value"] == old_validation["bits_per_byte"]
    found = Measurement.from_dict(current_row(then["validation"]))
    assert found.value == then["validation"]["bits_per_byte"]
    assert (found.n, found.unit) == (old_validation["n_bytes"], "bytes")
    assert found.metric == ("bits per dim" if task == "images" else "bits per byte")
    assert found.extras.get("accuracy") == old_validation.get("accuracy")


@pytest.mark.parametrize("task", ["text", "duplication", "images", "translation"])
def test_results_of_then_stay_beside_new_ones_until_they_are_measured_again(tmp_path, task):
    rows = written(task)["eval.json"]
    (tmp_path / "eval.json").write_text(json.dumps(rows))
    (tmp_path / "card.json").write_text(json.dumps({"results": [{"metric": "old", "value": 1.0, "attention": "full"}]}))
    new = Measurement(metric="bits per byte", value=1.0, n=1, unit="bytes", protocol="p")
    add_results(tmp_path, [Evaluated(split="test", variant="as-trained", measurement=new)], 6, ["reformer", "eval"])
    kept = json.loads((tmp_path / "eval.json").read_text())
    assert [row["variant"] for row in kept] == [*(row["attention"] for row in rows), "as-trained"]
    assert [row["value"] for row in kept[:-1]] == [row.get("bits_per_byte", row.get("value")) for row in rows]
    results = json.loads((tmp_path / "card.json").read_text())["results"]
    names = [f"{row['metric']} ({row['variant']})" for row in kept]
    assert [result["metric"] for result in results if not result["metric"].startswith("accuracy")] == names
    # Measured again, a line takes the place of the earlier one.
    first = Measurement.from_dict(
        {k: v for k, v in current_row(rows[0]).items() if k not in ("split", "variant", "step")}
    )
    again = Evaluated(split=rows[0]["split"], variant=rows[0]["attention"], measurement=first)
    add_results(tmp_path, [again], 6, ["reformer", "eval"])
    assert len(json.loads((tmp_path / "eval.json").read_text())) == len(kept)


@pytest.mark.parametrize("name", RECIPES)
def test_the_names_of_then_and_now_say_the_same(name):
    config = RECIPES[name]()
    then = earlier_config(config.as_dict())
    assert "eval_bytes" in then and "objective" in then
    assert current_config(then) == current_config(config.as_dict()) == config.as_dict()
    assert config_from_dict(then) == config


def test_an_unknown_task_or_field_is_refused():
    values = written("text")["config.json"]["config"]
    with pytest.raises(ValueError, match="unknown task 'chess'; tasks: text, duplication, recall, images"):
        config_from_dict({**values, "task": "chess"})
    with pytest.raises(ValueError, match="TextConfig has no field temperature"):
        config_from_dict({**values, "temperature": 1.0})
