"""Pictures: whole pictures, once an epoch, resumed to the byte, scored in bits per dim."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.images.helpers import raster, some_pictures, write_folder
from tests.tasks.helpers import like_tiny
from tests.training.runs import TINY, weights

from reformer.data import DataError
from reformer.models import ReformerLM
from reformer.tasks.images import ImagesConfig, ImageTask
from reformer.training.loop import train

PICTURES = {**some_pictures(7, "train/"), **some_pictures(5, "val/", 100), **some_pictures(3, "test/", 200)}


def config(folder: Path, **changes) -> ImagesConfig:
    model = dataclasses.replace(TINY.model, axial_shape=(8, 8, 3))
    common = {"data": str(folder / "photos"), "seq_len": 192, "batch_size": 3, "model": model, "eval_pictures": 1}
    return like_tiny(ImagesConfig, **{**common, "accumulate": 1, "steps": 6, **changes})


@pytest.fixture
def task(tmp_path: Path) -> ImageTask:
    write_folder(tmp_path / "photos", PICTURES)
    return config(tmp_path).make_task(tmp_path / "cache")


def test_batches_are_whole_pictures_shifted_by_one(task: ImageTask):
    inputs, targets = task.batch(0)
    assert inputs.shape == targets.shape == (3, 192) and targets.dtype == np.int64
    assert (inputs[:, 1:] == targets[:, :-1]).all() and (inputs[:, 0] == 256).all()
    known = {raster(i).tobytes() for i in range(7)}
    assert {row.astype(np.uint8).tobytes() for row in targets} <= known


def test_an_epoch_has_every_picture_once_in_an_order_of_its_own(task: ImageTask):
    rows = np.concatenate([task.batch(index)[1] for index in range(7)]).astype(np.uint8)
    epochs = [[row.tobytes() for row in epoch] for epoch in rows.reshape(3, 7, -1)]
    assert all(sorted(epoch) == sorted(raster(i).tobytes() for i in range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_bits_per_dim_are_the_mean_over_every_byte_of_the_pictures(task: ImageTask, tmp_path: Path):
    torch.manual_seed(0)
    model = ReformerLM(config(tmp_path).model)
    found = task.evaluate(model, "validation", 100)
    tokens = torch.from_numpy(np.stack([raster(100 + i).reshape(-1) for i in range(5)]).astype(np.int64))
    model.eval()
    nats = [model(model.shift_right(t[None]), targets=t[None], seed=0).item() for t in tokens]
    assert found.value == pytest.approx(np.mean(nats) / math.log(2), rel=1e-5)
    assert (found.n, found.unit, found.extras["n_pictures"], found.metric) == (5 * 192, "bytes", 5, "bits per dim")
    assert "all 5 validation pictures, 8x8x3" in found.protocol


def test_a_part_of_a_split_is_whole_pictures_in_a_fixed_order(task: ImageTask, tmp_path: Path):
    every = task.pictures("validation", 100)
    assert sorted(p.tobytes() for p in every) == sorted(raster(100 + i).tobytes() for i in range(5))
    # Not that of the folder, which may be sorted by class.
    assert [p.tobytes() for p in every] != [raster(100 + i).tobytes() for i in range(5)]
    assert np.array_equal(task.pictures("validation", 2), every[:2])
    assert len(task.pictures("validation", 1)) == 1
    again = config(tmp_path, seed=9).make_task(tmp_path / "cache")
    assert np.array_equal(again.pictures("validation", 100), every)
    assert "2 (the first in a fixed random order) of the 5 validation" in task.describe("validation", 2)


def test_yardsticks_see_the_pictures_that_are_evaluated(task: ImageTask):
    found = task.yardsticks("validation", 2)
    counts = np.bincount(task.pictures("validation", 2).reshape(-1))
    shares = counts[counts > 0] / 384
    assert found["order-0"].value == pytest.approx(-(shares * np.log2(shares)).sum())
    assert found["PNG"].n == 384 and found["PNG"].metric == "bits per dim"


def test_held_out_inputs_are_those_of_an_evaluation(task: ImageTask):
    inputs = list(task.held_out("test", 2))
    pictures = task.pictures("test", 2).reshape(2, -1)
    assert [i[0] for i in inputs] == [256, 256]
    assert all((i[1:] == p[:-1]).all() for i, p in zip(inputs, pictures, strict=True))


def test_a_resumed_run_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path / "photos", PICTURES)
    run, cache = config(tmp_path), tmp_path / "cache"
    train(run, tmp_path / "whole", cache_dir=cache)
    draw = ImageTask.batch

    def crash(self, index):
        if index == 3:
            raise RuntimeError("cut")
        return draw(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(ImageTask, "batch", crash)
        with pytest.raises(RuntimeError, match="cut"):
            train(run, tmp_path / "cut", cache_dir=cache)
    # A resumed run reads the pictures that it was started with, whatever became of the folder.
    (tmp_path / "photos" / "train" / "000.png").unlink()
    assert train(run, tmp_path / "cut", cache_dir=cache, resume=True).status == "finished"
    assert weights(tmp_path / "cut", 6) == weights(tmp_path / "whole", 6)


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"seq_len": 190}, "3·side², for example 147 or 192, got 190"),
        (
            {"model": dataclasses.replace(TINY.model, causal=False, positions="none")},
            "'images' is causal",
        ),
        ({"model": dataclasses.replace(TINY.model, vocab_size=128, axial_shape=(8, 8, 3))}, "vocab_size must be 256"),
        ({"model": dataclasses.replace(TINY.model, axial_shape=(7, 8, 3))}, "length 192 is beyond the 168 positions"),
    ],
)
def test_configs_that_cannot_be_are_refused(tmp_path: Path, changes: dict, fact: str):
    with pytest.raises(ValueError, match=fact):
        config(tmp_path, **changes)


def test_a_prepared_corpus_of_another_size_is_refused(tmp_path: Path, task: ImageTask):
    model = dataclasses.replace(config(tmp_path).model, axial_shape=(4, 4, 3))
    small = config(tmp_path, seq_len=48, model=model)
    with pytest.raises(DataError, match="pictures of 8 x 8, 4 x 4 are needed"):
        small.make_task(tmp_path / "cache", task.corpus.directory)
