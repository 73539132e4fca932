"""A prepared corpus of pairs: text and ids of each split, and their vocabulary."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reformer.data.corpus import Corpus, open_corpus, split_path
from reformer.data.errors import DataError, reason
from reformer.data.pairs.vocabulary import Vocabulary


class Sentences:
    """Ids of sentences, each with its end token, mapped from disk."""

    def __init__(self, ids: np.ndarray, starts: np.ndarray) -> None:
        self._ids, self._starts = ids, starts
        self.lengths = np.diff(starts)
        """Tokens of each, int64 [n]."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        """The ids of one sentence, int32."""
        return self._ids[self._starts[index] : self._starts[index + 1]]


class PairSet(NamedTuple):
    """Some pairs of a split that came from the same files: those from ``first`` to before ``last``."""

    name: str
    first: int
    last: int


@dataclass(frozen=True)
class PairCorpus:
    """Pairs prepared by `load_pairs`: ``corpus`` is the text, a line "source, tab, target" for each pair."""

    corpus: Corpus

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of both sides."""
        return Vocabulary.load(self.corpus.directory / "vocabulary.json")

    def sentences(self, split: str) -> tuple[Sentences, Sentences]:
        """Source and target ids of a split."""
        return self._side(split, 0), self._side(split, 1)

    def text(self, split: str) -> list[tuple[str, str]]:
        """Source and target text of a split."""
        return list(read_pairs(split_path(self.corpus.directory, split)))

    def sets(self, split: str) -> list[PairSet]:
        """What the split is made of, in its order."""
        found, first = [], 0
        for entry in self.corpus.card["splits"][split]["sets"]:
            found.append(PairSet(entry["name"], first, first + entry["pairs"]))
            first += entry["pairs"]
        return found

    def _side(self, split: str, side: int) -> Sentences:
        arrays = []
        for what in ("ids", "starts"):
            path = ids_path(self.corpus.directory, split, side, what)
            try:
                arrays.append(np.load(path, mmap_mode="r", allow_pickle=False))
            except (OSError, ValueError) as error:
                raise DataError(f"{path} cannot be read ({reason(error)}); prepare the pairs again") from error
        return Sentences(*arrays)


def open_pairs(directory: Path) -> PairCorpus:
    """Pairs prepared before. Raises DataError when something is missing or damaged, or it is another kind of corpus."""
    corpus = open_corpus(directory)
    if "vocabulary" not in corpus.card:
        raise DataError(f"{directory} is a corpus of bytes, not of pairs of sentences; give the pairs themselves")
    return PairCorpus(corpus)


def ids_path(directory: Path, split: str, side: int, what: str) -> Path:
    """Where the "ids" of a side lie, or the "starts" of its sentences."""
    return directory / f"{split}.{('source', 'target')[side]}.{what}.npy"


def read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """The pairs of a split's text file."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            source, _, target = line.rstrip("\n").partition("\t")
            yield source, target
