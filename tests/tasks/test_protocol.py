"""What every task gives the loop and the command line, and what is refused alike."""

import json

import numpy as np
import pytest
from tests.tasks.helpers import like_tiny

from reformer.tasks.config import RunConfig
from reformer.tasks.images import ImagesConfig, ImagesEvalOptions
from reformer.tasks.language_model import ContinueOptions
from reformer.tasks.protocol import Measurement
from reformer.tasks.recall import RecallConfig
from reformer.tasks.registry import CONFIGS, RECIPES
from reformer.tasks.text import TextConfig, TextEvalOptions
from reformer.tasks.translation import TranslationEvalOptions
from reformer.training.run_directory import load_averaged


def test_a_measurement_comes_back_from_its_values():
    found = Measurement(
        metric="bits per dim", value=3.25, n=768, unit="bytes", protocol="p", extras={"n_pictures": 1, "accuracy": 0.5}
    )
    values = json.loads(json.dumps(found.as_dict()))
    assert values["n_pictures"] == 1 and values["metric"] == "bits per dim"
    assert Measurement.from_dict(values) == found
    assert str(found) == "3.250 bits/dim, accuracy 50.00%"
    with pytest.raises(KeyError, match="protocol"):
        Measurement.from_dict({name: value for name, value in values.items() if name != "protocol"})


@pytest.mark.parametrize("task", CONFIGS)
def test_every_task_names_its_unit_and_options_that_can_be_left_as_they_are(task):
    config = CONFIGS[task]
    assert config.task == task and config.metric.startswith("bits per ")
    assert config.eval_options().limit >= 1 and config.generate_options() is not None


def test_every_recipe_says_in_a_line_what_it_is():
    assert all((make.__doc__ or "").splitlines()[0].endswith(".") for make in RECIPES.values())


@pytest.mark.parametrize("options", [config.eval_options for config in CONFIGS.values()])
def test_evaluations_of_nothing_or_of_unknown_splits_are_refused(options):
    with pytest.raises(ValueError, match="--limit must be at least 1, got 0"):
        options(limit=0)
    with pytest.raises(ValueError, match="unknown split 'tests'; splits: train, validation, test"):
        options(splits=("tests",))


def test_rounds_that_are_not_positive_numbers_are_refused():
    with pytest.raises(ValueError, match="--n-hashes takes positive numbers separated by commas, got '1,x'"):
        TextEvalOptions(n_hashes="1,x")
    assert ImagesEvalOptions(attention="full,as-trained", n_hashes="2, 4").variants() == [
        "full",
        "as-trained",
        "lsh-2",
        "lsh-4",
    ]
    assert not hasattr(TranslationEvalOptions(), "n_hashes")


def test_a_text_evaluation_takes_its_windows_and_overlap_from_the_options(tmp_path):
    (tmp_path / "text.txt").write_text("some words " * 2000)
    config = like_tiny(TextConfig, data=str(tmp_path / "text.txt"))
    task, model = config.make_task(tmp_path / "cache"), config.make_model()
    options = TextEvalOptions(limit=100, window=32, overlap=8, splits=("test",))
    lines = list(task.evaluations(model, options))
    assert [(line.variant, line.is_yardstick) for line in lines] == [
        ("as-trained", False),
        *[(name, True) for name in ("gzip -9", "bzip2 -9", "xz -9e")],
    ]
    assert lines[0].measurement.protocol.startswith(
        "first 100 test bytes, windows of 32, overlap 8; each byte scored once"
    )
    assert (lines[0].measurement.n, lines[0].measurement.unit) == (100, "bytes")
    with pytest.raises(ValueError, match="--overlap must be at least 0 and below the window of 32, got 32"):
        task.evaluations(model, TextEvalOptions(window=32, overlap=32))


def test_what_a_task_cannot_give_it_refuses_with_the_way_to_go(tmp_path):
    recall = like_tiny(RecallConfig, data="synthetic")
    with pytest.raises(ValueError, match="trained on recall, not on images; try reformer generate"):
        recall.draw(None, None, tmp_path)
    images = like_tiny(ImagesConfig, seq_len=48)
    with pytest.raises(ValueError, match="trained on pictures; draw some with: reformer images"):
        images.generate(None, b"", ContinueOptions(), tmp_path)
    with pytest.raises(ValueError, match="--n-bytes must be at least 1, got 0"):
        ContinueOptions(n_bytes=0)


def test_a_config_that_no_task_made_cannot_be():
    with pytest.raises(TypeError, match="abstract"):
        RunConfig(name="x", seq_len=64)  # type: ignore[abstract]


def test_without_an_average_the_model_stays_and_is_named_by_its_step(tmp_path):
    config = like_tiny(TextConfig)
    model = config.make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert load_averaged(model, tmp_path, None, 7) == "checkpoint of step 7"
    assert all(np.array_equal(before[name], tensor) for name, tensor in model.state_dict().items())
