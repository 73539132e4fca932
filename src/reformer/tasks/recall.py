"""Associative recall, whole: facts in noise, or needles in the text of a corpus, and its recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from reformer.data import Corpus, load_corpus, noise_filler, open_corpus, recall_batch, sample_windows
from reformer.data.recall import N_VALUES
from reformer.models import ReformerConfig
from reformer.tasks.config import EvalOptions, OptimizerConfig
from reformer.tasks.language_model import AttentionOptions, FreshSequences, LanguageModelConfig, counted_where

NOISE = "synthetic"
# Training begins with rows of about so many symbols: among thousands of others a statement is not found by chance.
_FIRST_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class RecallEvalOptions(AttentionOptions):
    """What to measure: accuracy and bits per value of the facts asked again."""

    limit: int = 256
    """Fresh sequences of each split (in noise of the last split named: there all are alike)."""


@dataclass(frozen=True, kw_only=True)
class RecallConfig(LanguageModelConfig):
    """Facts stated and asked for again, in noise or in the text of a corpus (``reformer.data.recall``)."""

    task: ClassVar[str] = "recall"
    metric: ClassVar[str] = "bits per value"
    eval_count: ClassVar[str] = "eval_sequences"
    eval_options: ClassVar[type[EvalOptions]] = RecallEvalOptions

    data: str = NOISE
    """synthetic (noise), or the corpus whose text stands between the facts: stdlib, enwik8, a path, or - for standard input."""
    seq_len: int = 1024
    """Symbols of a sequence; training begins with rows of 128 and more, which grow to this until half-time."""
    eval_sequences: int = 64
    """Sequences of one evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_bytes()
        self.require_causal(": what is asked was stated before")

    def make_task(self, cache_dir: Path, prepared: Path | None = None) -> RecallTask:
        """The task, in noise or over the corpus that the config names, or the one prepared in a folder."""
        if self.data == NOISE:
            return RecallTask(self, None)
        return RecallTask(self, load_corpus(self.data, cache_dir) if prepared is None else open_corpus(prepared))


class RecallTask(FreshSequences):
    """Values of facts asked for again, loss and accuracy on those alone; ``corpus`` None: between them stands noise."""

    unit = "values"
    yardsticks_note = f"a guess costs log2({N_VALUES}) = {np.log2(N_VALUES):g} bits"
    made_from = "synthetic: facts in noise, STATE value key and later ASK key value"

    def __init__(self, config: RecallConfig, corpus: Corpus | None) -> None:
        self.config, self.corpus = config, corpus
        self.splits_differ = corpus is not None

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of the ``index``-th batch: rows grow to seq_len until half-time, and get fewer as they do."""
        doublings = max(0, (self.config.seq_len // _FIRST_LENGTH).bit_length() - 1)
        total = self.config.steps * self.config.accumulate
        missing = max(0, doublings - 2 * index * doublings // total)
        length, size = self.config.seq_len >> missing, self.config.batch_size << missing
        sequence, distance = self.draw("train", size, length, seed=self.config.seed, step=index)
        return self.inputs(sequence), counted_where(distance > 0, sequence)

    def draw(self, split: str, size: int, length: int, *, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(sequences, at the values asked for how far before they were stated)."""
        if self.corpus is None:
            filler = noise_filler(size, length, seed=seed, step=step)
        else:
            filler = sample_windows(self.corpus.split(split), length, size, seed=seed, step=step)
        return recall_batch(filler, seed=seed, step=step)

    def describe(self, split: str) -> str:
        between = "noise" if self.corpus is None else f"text of the {split} split of {self.corpus.name}"
        return f"of {self.config.seq_len:,}, facts asked again, {between} between them"


def recall() -> RecallConfig:
    """Associative recall with local and LSH attention, facts in noise (or --data CORPUS: in text), on a laptop CPU."""
    return RecallConfig(
        name="recall",
        seq_len=1024,
        batch_size=8,
        steps=600,
        eval_every=100,
        eval_sequences=64,
        checkpoint_every=100,
        optimizer=OptimizerConfig(name="muon", lr=0.02, schedule="cosine", warmup_steps=20),
        model=ReformerConfig(
            d_model=128,
            d_ff=256,
            n_heads=2,
            attention=("local", "lsh"),
            n_hashes=4,
            positions="rotary-local",
            embedding_std=1.0,
        ),
    )


RECIPES: dict[str, Callable[[], RecallConfig]] = {"recall": recall}
