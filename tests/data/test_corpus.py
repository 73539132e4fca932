import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from reformer.data import SPLITS, Corpus, load_corpus, open_corpus

from .helpers import contents, refuses, some_bytes

DATA = some_bytes(1000)


@pytest.fixture
def corpus(tmp_path: Path, cache: Path) -> Corpus:
    (tmp_path / "text.txt").write_bytes(DATA)
    return load_corpus(str(tmp_path / "text.txt"), cache)


def test_splits_are_read_only_bytes(corpus: Corpus):
    split = corpus.split("validation")
    assert isinstance(split, np.memmap)
    assert split.dtype == np.uint8
    assert split.tobytes() == DATA[900:950]
    with pytest.raises(ValueError, match="read-only"):
        split[0] = 1


def test_unknown_split_lists_the_valid_ones(corpus: Corpus):
    with refuses("'valid'", "train, validation, test", "did you mean validation?"):
        corpus.split("valid")


def test_card_says_what_was_prepared(corpus: Corpus, tmp_path: Path):
    card = json.loads((corpus.directory / "card.json").read_text())
    assert card == corpus.card
    assert card["name"] == corpus.name == "text.txt"
    assert card["source"] == str(tmp_path / "text.txt")
    assert card["bytes"] == 1000
    assert card["sha256"] == sha256(DATA).hexdigest()
    assert "90%" in card["rule"]
    created = datetime.fromisoformat(card["created"])
    assert timedelta(0) <= datetime.now(UTC) - created < timedelta(minutes=5)
    for name, part in zip(SPLITS, (DATA[:900], DATA[900:950], DATA[950:])):
        assert card["splits"][name] == {"bytes": len(part), "sha256": sha256(part).hexdigest()}


def test_opens_again(corpus: Corpus):
    again = open_corpus(corpus.directory, verify=True)
    assert again == corpus
    assert contents(again) == contents(corpus)


def test_refuses_a_folder_that_is_no_corpus(tmp_path: Path):
    with refuses(str(tmp_path), "no card.json", "prepare"):
        open_corpus(tmp_path)
    with refuses("nowhere", "no such folder"):
        open_corpus(tmp_path / "nowhere")


def test_refuses_a_split_of_another_size(corpus: Corpus):
    path = corpus.directory / "test.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with refuses(str(path), "expected 50 bytes, found 49", "delete this folder"):
        open_corpus(corpus.directory)


def test_refuses_a_missing_split(corpus: Corpus):
    (corpus.directory / "train.bin").unlink()
    with refuses("train.bin", "No such file", "delete this folder"):
        open_corpus(corpus.directory)


def test_flipped_byte_is_found_by_verify_only(corpus: Corpus):
    path = corpus.directory / "validation.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    assert open_corpus(corpus.directory).name == corpus.name
    with refuses(str(path), "expected sha256", "delete this folder"):
        open_corpus(corpus.directory, verify=True)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("{", "is damaged"),
        ("[]", "are missing"),
        ('{"name": "x", "splits": {"train": {}}}', "are missing"),
    ],
)
def test_refuses_a_damaged_card(corpus: Corpus, text: str, fact: str):
    (corpus.directory / "card.json").write_text(text)
    with refuses("card.json", fact, "delete this folder"):
        open_corpus(corpus.directory)


def test_refuses_another_format(corpus: Corpus):
    card = {**corpus.card, "format": 99}
    (corpus.directory / "card.json").write_text(json.dumps(card))
    with refuses("format 99", "reads 1"):
        open_corpus(corpus.directory)


def test_import_is_light():
    code = "import sys, reformer.data; print([m for m in ('torch', 'zstandard', 'urllib.request') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
