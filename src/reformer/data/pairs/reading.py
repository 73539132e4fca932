"""Pairs of sentences from files: tab-separated columns, or one file for each language."""

import codecs
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from reformer.data.corpus import SPLITS
from reformer.data.decoding import read_path, uncompressed_name
from reformer.data.errors import DataError, reason

Pair = tuple[str, str]

# Whatever follows the name of a split must not go on as a word.
_SPLIT_NAME = re.compile(r"(train|validation|valid|val|dev|test)(?![^\W\d_])")
_SALT = "reformer pairs split 1"
HASH_RULE = (
    f"by sha256({_SALT!r} + source sentence) modulo 100: 0 is test, 1 validation, all others train, so that all "
    "translations of a sentence are in one split"
)
FOLDER_RULE = "as the files are named; within a split in order of their names"


@dataclass(frozen=True)
class PairFiles:
    """The files that hold some pairs: one with two columns, or one for each language. ``name`` is what they share."""

    name: str
    paths: tuple[Path, ...]

    def pairs(self) -> Iterator[Pair]:
        """The pairs in order, one for each line. Raises DataError for lines that are no pair."""
        return _columns(self.paths[0]) if len(self.paths) == 1 else _parallel(*self.paths)


def find_pairs(folder: Path, source_lang: str, target_lang: str) -> dict[str, list[PairFiles]]:
    """The files of each split in a folder, by their names: ``train.en`` and ``train.de``, ``test.news.tsv`` and the like.

    A name is a split (train; validation, valid, val or dev; test), anything after it, and the language or .tsv; it may be
    compressed. Raises DataError if a file has no partner or a split has no file.
    """
    if source_lang == target_lang:
        raise DataError(f"source and target are both {source_lang!r}: expected two languages, as the files' names end")
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise DataError(f"cannot read {folder}: {reason(error)}") from error
    found: dict[str, list[PairFiles]] = {split: [] for split in SPLITS}
    by_name: dict[str, str] = {}
    for name in names:
        other = by_name.setdefault(uncompressed_name(name), name)
        if other != name and _split_of(uncompressed_name(name).rpartition(".")[0]) is not None:
            raise DataError(f"{folder} holds both {other} and {name}, the same pairs twice; remove one")
    for name in names:
        stem, _, ending = uncompressed_name(name).rpartition(".")
        split = _split_of(stem)
        if split is None or ending not in ("tsv", source_lang):
            continue
        if ending == "tsv":
            found[split].append(PairFiles(stem, (folder / name,)))
            continue
        partner = by_name.get(f"{stem}.{target_lang}")
        if partner is None:
            raise DataError(f"{folder / name} has no partner: expected {stem}.{target_lang} beside it")
        found[split].append(PairFiles(stem, (folder / name, folder / partner)))
    empty = [split for split in SPLITS if not found[split]]
    if empty:
        raise DataError(
            f"{folder} has no pairs for {', '.join(empty)}: expected files named {empty[0]}.{source_lang} and "
            f"{empty[0]}.{target_lang}, or {empty[0]}.tsv"
        )
    return found


def split_of(source: str) -> str:
    """The split of a pair by ``HASH_RULE``."""
    number = int.from_bytes(hashlib.sha256((_SALT + source).encode()).digest()[:8], "big") % 100
    return {0: "test", 1: "validation"}.get(number, "train")


def _split_of(stem: str) -> str | None:
    found = _SPLIT_NAME.match(stem)
    return found and {"train": "train", "test": "test"}.get(found[1], "validation")


def _columns(path: Path) -> Iterator[Pair]:
    for number, line in enumerate(_lines(path), start=1):
        if not line:
            continue
        source, tab, rest = line.partition("\t")
        if not tab:
            raise DataError(f"{path}: line {number} has one column; expected source and target with a tab between them")
        # Further columns (Tatoeba's say whose the sentences are) are left out.
        yield source.strip(), rest.partition("\t")[0].strip()


def _parallel(source: Path, target: Path) -> Iterator[Pair]:
    for number, (a, b) in enumerate(zip_longest(_lines(source), _lines(target)), start=1):
        if a is None or b is None:
            longer = source if b is None else target
            raise DataError(
                f"{source} and {target} are not parallel: only {longer} has a line {number}; give equal lengths"
            )
        yield a.replace("\t", " ").strip(), b.replace("\t", " ").strip()


def _lines(path: Path) -> Iterator[str]:
    """Lines without their ends. Only \\n ends a line: sentences may hold what str.splitlines takes for an end."""
    number, rest = 0, b""
    for block in read_path(path):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            number += 1
            yield _decoded(line, path, number)
    if rest:
        yield _decoded(rest, path, number + 1)


def _decoded(line: bytes, path: Path, number: int) -> str:
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.decode().removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: line {number} is not UTF-8 ({error.reason}); convert it, for example by iconv"
        ) from error
