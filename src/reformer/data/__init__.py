"""Bytes to train on: corpora prepared once on disk, windows of them, and made tasks. Needs numpy only."""

from reformer.data.corpus import SPLITS, Corpus, open_corpus
from reformer.data.enwik8 import prepare_enwik8
from reformer.data.errors import DataError
from reformer.data.loading import load_corpus
from reformer.data.recall import noise_filler, recall_batch
from reformer.data.sampling import evaluation_windows, sample_windows, shift_right, shuffled, shuffled_rows
from reformer.data.synthetic import duplication_batch, masked_batch

__all__ = [
    "SPLITS",
    "Corpus",
    "DataError",
    "duplication_batch",
    "evaluation_windows",
    "load_corpus",
    "masked_batch",
    "noise_filler",
    "open_corpus",
    "prepare_enwik8",
    "recall_batch",
    "sample_windows",
    "shift_right",
    "shuffled",
    "shuffled_rows",
]
