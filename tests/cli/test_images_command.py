"""Pictures on the command line: prepared, trained on, evaluated, drawn and completed."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.test_commands import run
from tests.data.images.helpers import raster, some_pictures, write_folder

from reformer.cli.main import main

FLAGS = [
    word
    for line in (
        "--seq-len 192 --batch-size 2 --steps 2 --eval-every 2 --eval-pictures 2 --model.d-model 12 --model.d-ff 16",
        "--model.n-heads 2 --model.attention local lsh --model.axial-shape 8 8 3 --model.lsh-chunk-len 16",
    )
    for word in line.split()
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    files = {**some_pictures(9, "train/"), **some_pictures(4, "val/", 100), **some_pictures(4, "test/", 200)}
    write_folder(folder / "photos", files)
    common = ["--data", folder / "photos", "--out", folder / "run", "--cache-dir", folder / "cache"]
    assert main([str(a) for a in ("train", "images-small", *common, *FLAGS)]) == 0
    return folder


def png(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_training_reports_bits_per_dim(trained: Path):
    card = json.loads((trained / "run" / "card.json").read_text())
    assert [result["metric"] for result in card["results"]][:1] == ["bits per dim"]
    assert card["data"]["pictures"] == {"train": 9, "validation": 4, "test": 4}
    assert "official" in card["data"]["rule"]


def test_evaluation_beside_yardsticks(trained: Path, capsys):
    code, out, _ = run(capsys, "eval", trained / "run", "--limit", 2, "--n-hashes", "1,2")
    assert code == 0
    for word in ("bits/dim", "lsh-1", "lsh-2", "order-0", "PNG", "2 (the first in a fixed random order) of the 4 test"):
        assert word in out
    rows = json.loads((trained / "run" / "eval.json").read_text())
    assert {row["metric"] for row in rows} == {"bits per dim"}
    card = json.loads((trained / "run" / "card.json").read_text())
    assert {"bits per dim (lsh-2)", "bits per dim (PNG)"} <= {result["metric"] for result in card["results"]}


def test_drawn_pictures_are_a_grid(trained: Path, tmp_path: Path, capsys):
    code, out, _ = run(capsys, "images", trained / "run", "--out", tmp_path / "grid.png", "--n", 3)
    assert code == 0 and "2 x 2 of 8x8" in out
    grid = png(tmp_path / "grid.png")
    assert grid.shape == (18, 18, 3)
    assert (grid[10:, 10:] == 255).all() and not (grid[10:, :8] == 255).all()
    run(capsys, "images", trained / "run", "--out", tmp_path / "again.png", "--n", 3)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "grid.png").read_bytes()


def test_completions_stand_beside_the_picture_and_what_was_seen(trained: Path, tmp_path: Path, capsys):
    write_folder(tmp_path, some_pictures(1, "mine/", 500))
    arguments = ["images", trained / "run", "--out", tmp_path / "grid.png", "--complete", tmp_path / "mine"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and "1 x 3 of 8x8" in out
    original, seen, completed = np.split(np.delete(png(tmp_path / "grid.png"), [8, 9, 18, 19], axis=1), 3, axis=1)
    assert np.array_equal(original, raster(500))
    assert np.array_equal(seen[:4], raster(500)[:4]) and (seen[4:] == 128).all()
    assert np.array_equal(completed[:4], raster(500)[:4]) and not np.array_equal(completed[4:], raster(500)[4:])


def test_held_out_pictures_of_the_run_are_completed(trained: Path, tmp_path: Path, capsys):
    arguments = ["images", trained / "run", "--out", tmp_path / "grid.png", "--complete", "test", "--n", 2]
    assert run(capsys, *arguments, "--keep", 0.25)[0] == 0
    originals = {png(tmp_path / "grid.png")[top : top + 8, :8].tobytes() for top in (0, 10)}
    assert originals < {raster(200 + i).tobytes() for i in range(4)}


BAD = {
    "no pictures": (["--n", "0"], "--n must be at least 1, got 0"),
    "nothing kept": (["--complete", "test", "--keep", "0"], "--keep must leave 1 to 7 of 8 rows, got 0"),
    "all kept": (["--complete", "test", "--keep", "1"], "--keep must leave 1 to 7"),
    "no such pictures": (["--complete", "nowhere.png"], "no file or folder nowhere.png"),
    "no such folder": (["--out", "nowhere/grid.png"], "--out: there is no folder"),
    "checkpoint": (["--checkpoint", "worst"], "--checkpoint must be latest or best"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_one_line(case: str, trained: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, fact = BAD[case]
    code, out, err = run(capsys, "images", trained / "run", *arguments)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and out == ""
    assert fact in err
    assert list(tmp_path.iterdir()) == []


def test_text_commands_point_to_pictures(trained: Path, capsys):
    code, _, err = run(capsys, "generate", trained / "run", "--prompt", "x")
    assert code == 2 and "trained on pictures" in err and "reformer images" in err
    code, _, err = run(capsys, "eval", trained / "run", "--overlap", 5)
    assert (
        code == 2 and "unknown option --overlap" in err and "those that fit: --checkpoint" in err and "--limit" in err
    )
    code, _, err = run(capsys, "train", "imagenet64-3l", "--cache-dir", trained / "none")
    assert code == 2 and "train_data_batch_*.npz" in err


def test_data_prepares_pictures_and_says_what_was_left_out(tmp_path: Path, capsys):
    write_folder(tmp_path / "photos", {**some_pictures(30), "bad.png": b"x"})
    arguments = ["data", tmp_path / "photos", "--cache-dir", tmp_path / "cache", "--image-size"]
    code, out, err = run(capsys, *arguments, 4)
    assert code == 0
    # A command that trains on what was just prepared.
    said = out.splitlines()[-1].removeprefix("next: reformer ")
    assert shlex.split(said) == [
        *("train", "images-small", "--data", str(tmp_path / "photos"), "--seq-len", "48"),
        *("--cache-dir", str(tmp_path / "cache")),
    ]
    assert err.startswith("1 of 31 pictures cannot be read") and "bad.png" in err
    assert run(capsys, *arguments, 0)[0] == 2
