"""Pairs of sentences to translate: read from files, prepared once on disk, drawn in batches of like length."""

from reformer.data.pairs.batches import BucketedBatches, padded
from reformer.data.pairs.corpus import PairCorpus, PairSet, Sentences, open_pairs
from reformer.data.pairs.preparing import load_pairs
from reformer.data.pairs.reading import PairFiles, find_pairs
from reformer.data.pairs.vocabulary import END_ID, Vocabulary

__all__ = [
    "END_ID",
    "BucketedBatches",
    "PairCorpus",
    "PairFiles",
    "PairSet",
    "Sentences",
    "Vocabulary",
    "find_pairs",
    "load_pairs",
    "open_pairs",
    "padded",
]
