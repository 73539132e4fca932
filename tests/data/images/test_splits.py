import hashlib

import pytest

from reformer.data.images.splits import choose_rule, digest_of, official_split

from ..helpers import refuses
from .helpers import raster


def digests(n: int) -> list[bytes]:
    return [hashlib.sha256(str(i).encode()).digest() for i in range(n)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train/cat/1.png", "train"),
        ("photos/Val/1.png", "validation"),
        ("photos/test/1.png", "test"),
        ("train_64x64.zip/train_64x64/1.png", "train"),
        ("valid_64x64.tar/1.png", "validation"),
        ("train_data_batch_10.npz/7", "train"),
        ("val_data.npz/0", "validation"),
        ("testing/1.png", None),
        ("holiday/train.png", None),
        ("train.png", None),
    ],
)
def test_official_names(name: str, split: str | None):
    assert official_split(name) == split


def test_known_answers_of_the_content_rule():
    # A changed rule would silently move test pictures into training.
    rule = choose_rule(["a.png", "b.png"])
    found = {i: rule.split_of("a.png", d) for i, d in enumerate(digests(40))}
    assert {i: split for i, split in found.items() if split != "train"} == {
        16: "validation",
        23: "test",
        32: "validation",
    }


def test_held_out_shares_are_about_five_percent_each():
    rule = choose_rule(["a.png"])
    splits = [rule.split_of("a.png", digest) for digest in digests(20_000)]
    for split in ("validation", "test"):
        assert 0.045 < splits.count(split) / 20_000 < 0.055


def test_the_split_is_of_the_pixels_whatever_the_name():
    rule = choose_rule(["a.png"])
    for seed in range(50):
        digest = digest_of(raster(seed))
        assert rule.split_of("a.png", digest) == rule.split_of("b/c.jpg", digest)


def test_official_splits_are_kept_and_a_missing_one_comes_out_of_train():
    rule = choose_rule(["train/a.png", "val/b.png"])
    found = [rule.split_of("train/a.png", digest) for digest in digests(20_000)]
    assert set(found) == {"train", "test"}
    assert 0.007 < found.count("test") / 20_000 < 0.013
    assert {rule.split_of("val/b.png", digest) for digest in digests(500)} == {"validation"}
    assert "official" in rule.text and "from 0 below 1 test" in rule.text


def test_all_three_official():
    rule = choose_rule(["train/a.png", "val/b.png", "test/c.png"])
    assert {rule.split_of("train/a.png", digest) for digest in digests(500)} == {"train"}
    assert rule.text.startswith("official") and "mod 100" not in rule.text


@pytest.mark.parametrize("names", [["train/a.png", "bus/b.png"], ["train/a.png"], ["test/a.png", "val/b.png"]])
def test_a_class_called_train_is_no_official_split(names: list[str]):
    assert not choose_rule(names).is_official


def test_few_pictures_leave_one_in_each_split():
    rule = choose_rule(["a.png"])
    few = rule.for_few(set(digests(3)))
    assert sorted(few.split_of("a.png", digest) for digest in digests(3)) == ["test", "train", "validation"]
    assert "few pictures" in few.text
    with refuses("2 different pictures", "at least 3"):
        rule.for_few(set(digests(2)))
