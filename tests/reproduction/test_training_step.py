"""Both models are of the same sizes, take real steps, and are measured by turns."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.reproduction.helpers import COMMON

from reformer.models import ReformerLM
from reproduction.benchmarks.benchmark import Bench, measure
from reproduction.benchmarks.shapes import SHAPES, with_depth
from reproduction.benchmarks.steps import MODELS, MemoryOptions, ModelOptions, TrainingStep, memory_groups, model_groups
from reproduction.rows import RowFile
from reproduction.tables import describe

needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")


def subject(contender, **changes):
    config, length = SHAPES["toy"]()
    options = {"batch": 1, "seq_len": length, "dtype": "float32", "optimizer": "adam", "device": "cpu", "threads": 1}
    return TrainingStep(contender, config, **{**options, **changes})


@pytest.mark.parametrize("contender", ["reformer", pytest.param("transformers", marks=needs_transformers)])
@pytest.mark.parametrize("optimizer", ["adam", "adafactor"])
def test_a_step_learns(contender, optimizer, monkeypatch):
    monkeypatch.setattr("reproduction.benchmarks.steps.LEARNING_RATE", 1e-2)
    step = subject(contender, optimizer=optimizer)
    losses = []
    for _ in range(4):
        assert step.time() > 0
        losses.append(step.report()["loss"])
    # One batch over and over: the loss falls, rotations of the moment or not.
    assert losses[-1] < losses[0]
    report = step.report()
    assert report["kept_bytes"] >= 2 * 4 * report["parameters"]
    assert report["activation_bytes"] == report["peak_bytes"] - report["before_bytes"] - report["kept_bytes"]


@needs_transformers
def test_both_models_have_the_same_parameters_but_for_the_two_input_only_tokens():
    ours, theirs = subject("reformer"), subject("transformers")
    d_model = SHAPES["toy"]()[0].d_model
    assert ours.report()["parameters"] - theirs.report()["parameters"] == 2 * d_model


def test_bfloat16_is_autocast_over_float32_weights():
    step, exact = subject("reformer", dtype="bfloat16"), subject("reformer")
    step.time()
    exact.time()
    assert {str(p.dtype) for p in step.model.parameters()} == {"torch.float32"}
    assert step.report()["loss"] != exact.report()["loss"]
    assert step.report()["loss"] == pytest.approx(exact.report()["loss"], rel=0.02)


def rows_of(groups, options, file=None, say=lambda line: None):
    file = file or RowFile(None, COMMON)
    return measure(groups(options, Bench(file=file, device="cpu", threads=1)), file, say)


def test_models_take_turns_and_their_rows_are_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    options = ModelOptions(preset="toy", dtype=("float32",), repeats=2)
    rows = rows_of(model_groups, options, RowFile(path, COMMON))
    assert [row["contender"] for row in rows] == list(MODELS)
    for row in rows:
        if "not_run" in row:
            assert "pip install -e '.[reproduction]'" in row["not_run"]
            continue
        assert row["tokens_per_second"] == pytest.approx(256 / row["median_s"])
        assert row["peak_bytes"] > row["before_bytes"] > 0
        assert "tokens/s" in describe(row)
    lines = path.read_text()
    again = rows_of(model_groups, options, RowFile(path, COMMON))
    assert [row.get("median_s") for row in again] == [row.get("median_s") for row in rows]
    if find_spec("transformers") is not None:
        assert path.read_text() == lines


def test_without_bf16_units_it_is_not_run(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: "flags: fpu avx2")
    options = ModelOptions(preset="toy", dtype=("bfloat16",), contenders=("reformer",))
    (row,) = rows_of(model_groups, options)
    assert row["not_run"] == "no bf16 units"


def test_memory_is_measured_by_depth_in_fresh_processes():
    options = MemoryOptions(preset="toy", layers=(1, 2), reversible=(True,))
    rows = rows_of(memory_groups, options)
    assert [(row["layers"], row["reversible"], row["repeats"]) for row in rows] == [(1, True, 1), (2, True, 1)]
    assert rows[0]["parameters"] < rows[1]["parameters"]


def test_the_shapes_are_those_promised():
    million, length = SHAPES["1m"]()
    assert length == 1_048_576
    assert million.attention == ("local", "lsh") * 3
    assert (million.d_model, million.d_ff, million.n_heads, million.d_attn) == (256, 512, 2, 128)
    assert (million.n_hashes, million.n_buckets, million.lsh_chunk_len) == (1, (128, 128), 64)
    assert (million.axial_shape, million.axial_dims) == ((1024, 1024), (64, 192))
    assert million.ff_chunk_len == 131_072
    six, length = SHAPES["6-layers"]()
    assert (length, six.d_ff, six.n_heads, six.n_hashes, six.n_buckets) == (16_384, 1024, 4, 4, (16, 32))
    deep = with_depth(million, 12)
    assert deep.attention == ("local", "lsh") * 6
    for make in SHAPES.values():
        config, length = make()
        config.require_length(length)
        ReformerLM(dataclasses.replace(config, attention=config.attention[:1]))
