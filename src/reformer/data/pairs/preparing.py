"""Pairs of sentences to a corpus on disk: text, a vocabulary learnt from the training pairs, and ids."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reformer.data.corpus import SPLITS, sha256_of, split_path
from reformer.data.errors import DataError
from reformer.data.files import file_key
from reformer.data.pairs.corpus import PairCorpus, ids_path, open_pairs, read_pairs
from reformer.data.pairs.numbers import RULE, number_pairs
from reformer.data.pairs.reading import FOLDER_RULE, HASH_RULE, Pair, PairFiles, find_pairs, split_of
from reformer.data.pairs.vocabulary import Vocabulary
from reformer.data.preparing import SplitWriter, prepare

_FORMAT = 2
_LINES_AT_ONCE = 10_000


def load_pairs(source: str, cache_dir: Path, *, source_lang: str, target_lang: str, vocab_size: int) -> PairCorpus:
    """The pairs that ``source`` names, prepared below ``cache_dir`` the first time and re-used while it is unchanged.

    ``source`` is a file of two columns with a tab between them, which is split by sentence (``HASH_RULE``); a folder with
    files of each split (``find_pairs``); the name of such a file or folder below ``cache_dir/pairs``; or "numbers", which
    need no data. The vocabulary, which both languages share, has at most ``vocab_size`` tokens
    and is learnt from the training pairs. Pairs with an empty side are left out, and counted in the card.
    Raises DataError, one line, for whatever cannot be read, split or written.
    """
    path = _find(source, Path(cache_dir))
    if path is None:
        return _prepare_numbers(cache_dir, vocab_size)
    if (path / "card.json").is_file():
        return open_pairs(path)
    by_name = path.is_dir()
    if by_name:
        files = find_pairs(path, source_lang, target_lang)
    else:
        files = {"train": [PairFiles(path.name, (path,))]}

    def fill(working: Path) -> dict[str, Any]:
        splits = (_write_by_name if by_name else _write_by_hash)(working, files)
        vocabulary = _write_vocabulary(working, vocab_size)
        card = {"rule": FOLDER_RULE if by_name else HASH_RULE, "splits": splits, "vocabulary": vocabulary}
        return {
            **card,
            "languages": [source_lang, target_lang],
            "bytes": sum(entry["bytes"] for entry in splits.values()),
        }

    key = _key(files, (source_lang, target_lang, str(vocab_size)))
    return PairCorpus(prepare(cache_dir, f"{path.name}-pairs", key, source, fill))


def _find(source: str, cache_dir: Path) -> Path | None:
    """The file or folder that ``source`` names; None for "numbers", which are made."""
    if source == "numbers":
        return None
    path = Path(source).expanduser()
    kept = cache_dir / "pairs" / source
    for found in (path, kept):
        if found.exists():
            return found
    raise DataError(
        f"no file or folder {source}, and no {kept}: expected numbers, a file of two columns, or a folder with files of each "
        "split (docs/translation.md)"
    )


def _prepare_numbers(cache_dir: Path, vocab_size: int) -> PairCorpus:
    def fill(working: Path) -> dict[str, Any]:
        splits = {}
        for split, pairs in number_pairs().items():
            with _PairWriter(working, split) as writer:
                writer.begin("numbers")
                for pair in pairs:
                    writer.write(pair)
            splits[split] = writer.entry
        vocabulary = _write_vocabulary(working, vocab_size)
        total = sum(entry["bytes"] for entry in splits.values())
        return {"rule": RULE, "splits": splits, "vocabulary": vocabulary, "languages": ["en", "de"], "bytes": total}

    return PairCorpus(prepare(cache_dir, "numbers-pairs", f"{_FORMAT}-{vocab_size}", "numbers", fill))


def _key(files: dict[str, list[PairFiles]], options: Iterable[str]) -> str:
    keys = [file_key(path) for group in files.values() for one in group for path in one.paths]
    return hashlib.sha256("\0".join([f"pairs {_FORMAT}", *options, *keys]).encode()).hexdigest()[:16]


class _PairWriter:
    """The text of one split: a line for each pair, and how many pairs came from where."""

    def __init__(self, directory: Path, split: str) -> None:
        self._file = SplitWriter(directory, split)
        self._sets: list[dict[str, Any]] = []
        self._left_out = 0

    def __enter__(self) -> "_PairWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.__exit__(*exc)

    def begin(self, name: str) -> None:
        """What follows is another set."""
        self._sets.append({"name": name, "pairs": 0})

    def write(self, pair: Pair) -> None:
        """Append a pair, unless a side is empty."""
        if not all(pair):
            self._left_out += 1
            return
        self._file.write("\t".join(pair).encode() + b"\n")
        self._sets[-1]["pairs"] += 1

    @property
    def entry(self) -> dict[str, Any]:
        """What the card says about the split."""
        return {**self._file.entry, "sets": self._sets, "left_out": self._left_out}


def _write_by_name(working: Path, files: dict[str, list[PairFiles]]) -> dict[str, Any]:
    splits = {}
    for split in SPLITS:
        with _PairWriter(working, split) as writer:
            for one in files[split]:
                writer.begin(one.name)
                for pair in one.pairs():
                    writer.write(pair)
        splits[split] = _not_empty(split, writer.entry)
    return splits


def _write_by_hash(working: Path, files: dict[str, list[PairFiles]]) -> dict[str, Any]:
    (one,) = files["train"]
    writers = {split: _PairWriter(working, split) for split in SPLITS}
    try:
        for writer in writers.values():
            writer.begin(one.name)
        for pair in one.pairs():
            writers[split_of(pair[0])].write(pair)
    finally:
        for writer in writers.values():
            writer.__exit__()
    return {split: _not_empty(split, writer.entry) for split, writer in writers.items()}


def _not_empty(split: str, entry: dict[str, Any]) -> dict[str, Any]:
    if entry["bytes"] == 0:
        raise DataError(f"no pairs for {split}: give more of them (of a single file, one in a hundred goes there)")
    return entry


def _write_vocabulary(working: Path, size: int) -> dict[str, Any]:
    """Learn from the training text, write ids of every split; what the card says about it."""
    train = read_pairs(split_path(working, "train"))
    vocabulary = Vocabulary.train(itertools.chain.from_iterable(train), size)
    path = working / "vocabulary.json"
    vocabulary.save(path)
    for split in SPLITS:
        for side in (0, 1):
            text = (pair[side] for pair in read_pairs(split_path(working, split)))
            _write_ids(working, split, side, text, vocabulary.encode)
    return {"size": vocabulary.size, "sha256": sha256_of(path), "kind": "byte-level BPE, shared, of the training pairs"}


def _write_ids(
    working: Path, split: str, side: int, lines: Iterator[str], encode: Callable[[list[str]], list[np.ndarray]]
) -> None:
    ids: list[np.ndarray] = []
    lengths: list[int] = []
    while block := list(itertools.islice(lines, _LINES_AT_ONCE)):
        encoded = encode(block)
        lengths += [len(one) for one in encoded]
        ids.append(np.concatenate(encoded))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(ids_path(working, split, side, "ids"), np.concatenate(ids), allow_pickle=False)
    np.save(ids_path(working, split, side, "starts"), starts, allow_pickle=False)
