"""Every example runs, made tiny by its own arguments; what it says it writes is there and can be read."""

import importlib.util
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(monkeypatch, tmp_path):
    """The ``main`` of an example, run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def load(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    return load


def test_each_example_has_a_test():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested


def test_train_own_text(example, tmp_path, capsys):
    text = tmp_path / "mine.txt"
    text.write_text("".join(f"line {n} of my own text\n" for n in range(400)))
    tiny = [str(text), "--out", "run", "--cache-dir", "cache", "--seq-len", "128", "--n-bytes", "10"]
    main = example("train_own_text")
    main([*tiny, "--steps", "2"])
    said = capsys.readouterr().out
    assert "bits per byte on text that it was not trained on" in said
    assert "\nThe " in said
    assert (tmp_path / "run" / "card.md").exists()
    # The same command again finds the run finished, and samples the same.
    main([*tiny, "--steps", "2"])
    assert capsys.readouterr().out.splitlines()[-1] == said.splitlines()[-1]


def test_time_series(example):
    errors = example("time_series")(["--steps", "60", "--batch-size", "4"])
    assert len(errors) == 3
    # Far from trained, but no longer worse than nothing at all: the series' own variance is about 1.6.
    assert errors["Reformer"] < 1.6


def test_complete_image(example, tmp_path):
    image = pytest.importorskip("PIL.Image")
    main = example("complete_image")
    tiny = ["--side", "8", "--steps", "10", "--batch-size", "4", "--n-completed", "2"]
    wrong = main([*tiny, "--out", "drawn.png"])
    assert 0.0 <= wrong["Reformer"] <= 1.0
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for n in range(9):
        image.new("RGB", (30, 20), (20 * n, 90, 200)).save(photographs / f"{n}.png")
    main([*tiny, "--folder", str(photographs), "--out", "completed.png"])
    for file in ("drawn.png", "completed.png"):
        with image.open(tmp_path / file) as picture:
            assert picture.size == (3 * 8 * 6, 2 * 8 * 6)
            original, given, completed = (
                torch.tensor(list(picture.crop((x, 0, x + 48, 24)).get_flattened_data())) for x in (0, 48, 96)
            )
            assert torch.equal(original, given) and torch.equal(original, completed)
    with pytest.raises(SystemExit, match="expected at least 8"):
        main(["--folder", str(tmp_path / "nowhere")])


def test_classify_documents(example, tmp_path):
    from transformers import pipeline

    tiny = ["--out", "model", "--steps", "2", "--length", "128", "--n-files", "8"]
    shares = example("classify_documents")(tiny)
    assert all(0.0 <= share <= 1.0 for share in shares.values())
    found = pipeline("text-classification", model=str(tmp_path / "model"))(["import asyncio", "<xml>"])
    assert {answer["label"] for answer in found} <= {"source", "documentation", "bytecode", "tree"}


def test_finetune_converted(example, tmp_path):
    (tmp_path / "text.txt").write_text("abcdefgh" * 400)
    main = example("finetune_converted")
    bits = main(["--data", "text.txt", "--seq-len", "128", "--steps", "8"])
    # Random weights know nothing of 258 bytes; eight steps suffice to see that there are eight letters.
    assert bits["before"] > 7.0
    assert bits["after"] < 4.0
    assert (tmp_path / "runs" / "fine-tuned" / "model" / "model.safetensors").exists()
