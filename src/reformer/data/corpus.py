"""A prepared corpus: one folder with a file of bytes per split and a card that describes them."""

import difflib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reformer.data.errors import DataError, reason

SPLITS = ("train", "validation", "test")
CARD_FORMAT = 1
BLOCK_BYTES = 1 << 20
_REMEDY = "delete this folder and prepare the corpus again"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Bytes prepared for training: ``name``, the ``directory`` that holds them and its ``card`` (see `open_corpus`)."""

    name: str
    directory: Path
    card: dict[str, Any]

    def split(self, name: str) -> np.memmap:
        """The bytes of one of `SPLITS`, uint8 [n_bytes], mapped read-only: nothing is loaded until it is indexed.

        Raises DataError for an unknown name.
        """
        if name not in SPLITS:
            close = difflib.get_close_matches(name, SPLITS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise DataError(f"unknown split {name!r}: expected one of {', '.join(SPLITS)}{hint}")
        return np.memmap(split_path(self.directory, name), dtype=np.uint8, mode="r")


def split_path(directory: Path, name: str) -> Path:
    """Where the bytes of a split lie."""
    return directory / f"{name}.bin"


def is_prepared(directory: Path) -> bool:
    """Whether a prepared corpus is in this folder."""
    return os.path.isfile(directory / "card.json") and os.path.isfile(split_path(directory, "train"))


def open_corpus(directory: Path, verify: bool = False) -> Corpus:
    """Open a corpus prepared by `load_corpus` or `prepare_enwik8`.

    The card (``card.json``) holds ``name``, ``source`` as it was given, ``created`` (UTC), ``bytes`` in all, the
    split ``rule`` in words, and under ``splits`` the ``bytes``, ``sha256`` and, for folders, ``files`` of each split.
    Sizes are always checked against it, checksums with ``verify`` (reads everything once).
    Raises DataError when something is missing or damaged.
    """
    directory = Path(directory)
    card = _read_card(directory)
    for name in SPLITS:
        _check_split(directory, name, card["splits"][name], verify)
    return Corpus(name=card["name"], directory=directory, card=card)


def sha256_of(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_card(directory: Path) -> dict[str, Any]:
    path = directory / "card.json"
    if not path.is_file():
        what = "it has no card.json" if directory.is_dir() else "there is no such folder"
        raise DataError(f"{directory} is not a prepared corpus: {what}; prepare one with load_corpus")
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({reason(error)}); {_REMEDY}") from error
    try:
        complete = isinstance(card["name"], str) and all({"bytes", "sha256"} <= set(card["splits"][s]) for s in SPLITS)
    except (KeyError, TypeError):
        complete = False
    if not complete:
        raise DataError(f"{path} is damaged (name, splits or checksums are missing); {_REMEDY}")
    if card.get("format") != CARD_FORMAT:
        raise DataError(f"{path} has format {card.get('format')}, this version reads {CARD_FORMAT}; {_REMEDY}")
    return card


def _check_split(directory: Path, name: str, entry: dict[str, Any], verify: bool) -> None:
    path = split_path(directory, name)
    try:
        size = path.stat().st_size
        digest = sha256_of(path) if verify and size == entry["bytes"] else None
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}; {_REMEDY}") from error
    if size != entry["bytes"]:
        raise DataError(f"{path} is damaged: expected {entry['bytes']} bytes, found {size}; {_REMEDY}")
    if digest is not None and digest != entry["sha256"]:
        raise DataError(f"{path} is damaged: expected sha256 {entry['sha256']}, found {digest}; {_REMEDY}")
