"""Pairs of sentences to a corpus on disk: text, a vocabulary learnt from the training pairs, and ids."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reformer.data.corpus import SPLITS, is_prepared, sha256_of, split_path
from reformer.data.errors import DataError
from reformer.data.files import find_source, path_key
from reformer.data.pairs.corpus import PairCorpus, ids_path, open_pairs, read_pairs
from reformer.data.pairs.numbers import RULE, number_pairs
from reformer.data.pairs.reading import FOLDER_RULE, HASH_RULE, Pair, PairFiles, find_pairs, split_of
from reformer.data.pairs.vocabulary import Vocabulary
from reformer.data.preparing import prepare, split_writers, splits_part

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
    cache_dir = Path(cache_dir)
    if source == "numbers":

        def made(working: Path) -> dict[str, Any]:
            return _fill(working, number_pairs(), RULE, ("en", "de"), vocab_size)

        return PairCorpus(prepare(cache_dir, "numbers-pairs", f"{_FORMAT}-{vocab_size}", source, made))
    path = find_source(source, cache_dir / "pairs")
    if is_prepared(path):
        return open_pairs(path)
    if not path.exists():
        raise DataError(
            f"no file or folder {source}, and no {cache_dir / 'pairs' / source}: expected numbers, a file of two columns, "
            "or a folder with files of each split (docs/translation.md)"
        )
    rule, files = HASH_RULE, {"": [PairFiles(path.name, (path,))]}
    if path.is_dir():
        rule, files = FOLDER_RULE, find_pairs(path, source_lang, target_lang)

    def key() -> str:
        keys = [path_key(path) for group in files.values() for one in group for path in one.paths]
        text = "\0".join([f"pairs {_FORMAT}", source_lang, target_lang, str(vocab_size), *keys])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def fill(working: Path) -> dict[str, Any]:
        sets = {split: [(one.name, one.pairs()) for one in group] for split, group in files.items()}
        return _fill(working, sets, rule, (source_lang, target_lang), vocab_size)

    return PairCorpus(prepare(cache_dir, f"{path.name}-pairs", key, source, fill))


def _fill(
    working: Path,
    sets: Mapping[str, Sequence[tuple[str, Iterable[Pair]]]],
    rule: str,
    languages: tuple[str, str],
    vocab_size: int,
) -> dict[str, Any]:
    """Write the pairs of ``sets`` (name, pairs), by split ("": each pair to its own by ``HASH_RULE``), and their vocabulary."""
    with split_writers(working, "left_out") as writers:
        for writer in writers.values():
            writer.facts["sets"] = []
        for split, group in sets.items():
            for set_name, pairs in group:
                for name in (split,) if split else SPLITS:
                    writers[name].facts["sets"].append({"name": set_name, "pairs": 0})
                for pair in pairs:
                    writer = writers[split or split_of(pair[0])]
                    if all(pair):
                        writer.write("\t".join(pair).encode() + b"\n")
                        writer.facts["sets"][-1]["pairs"] += 1
                    else:
                        writer.facts["left_out"] += 1
    if empty := [name for name, writer in writers.items() if not writer.bytes]:
        raise DataError(f"no pairs for {empty[0]}: give more of them (of a single file, one in a hundred goes there)")
    vocabulary = _write_vocabulary(working, vocab_size)
    return {**splits_part(writers), "rule": rule, "vocabulary": vocabulary, "languages": list(languages)}


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
