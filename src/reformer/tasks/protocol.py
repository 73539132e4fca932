"""What a task is to the loop, the card and the command line: batches, a loss, and measurements in its own unit."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from reformer.data import Corpus
from reformer.models import ReformerEncoderDecoder, ReformerLM

Model = ReformerLM | ReformerEncoderDecoder
ProgressReport = Callable[[int, int], None]
"""Told (how many are done, how many there are)."""


def silent(done: int, total: int) -> None:
    """The ``ProgressReport`` that says nothing."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number measured on held-out data, in its own unit, with its protocol."""

    metric: str
    """What the number is: "bits per byte", "bits per dim", "BLEU cased", .."""
    value: float
    n: int
    """How many were scored."""
    unit: str
    """What ``n`` counts: bytes, symbols, pairs, .."""
    protocol: str
    """How it was measured, in words."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """What else came of it, as JSON values by name: "accuracy", "n_pictures", "signature", .."""

    def as_dict(self) -> dict[str, Any]:
        """Flat JSON values, ``extras`` among them."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "extras"}
        return values | dict(self.extras)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measurement:
        """What ``as_dict`` gave; further names become ``extras``. Raises KeyError for a missing one."""
        own = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name != "extras"}
        return cls(**own, extras={name: value for name, value in values.items() if name not in own})

    def __str__(self) -> str:
        accuracy = f", accuracy {self.extras['accuracy']:.2%}" if "accuracy" in self.extras else ""
        return f"{self.value:.3f} {self.metric.replace(' per ', '/')}{accuracy}"


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One line of an evaluation's table."""

    split: str
    """train, validation or test, or a set of one of them: test/news."""
    variant: str
    """What was measured: the model "as-trained", under another attention or beam search, or the name of a yardstick."""
    measurement: Measurement
    is_yardstick: bool = False
    """Whether it is not of the model, but of something that needs no training."""


class Task(ABC):
    """A source of batches and a measurement. Made by ``RunConfig.make_task``."""

    config: Any
    """The run's."""
    corpus: Corpus | None = None
    """Where the data lies; None if it is made up."""
    bytes_per_token: float = 1.0
    """How much of what the metric counts (bytes, symbols) a token of the loss stands for, on the average."""
    yardsticks_note: str = ""
    """What must be known to compare with the yardsticks; empty where there are none."""
    made_from: str = ""
    """What made-up data is, in words."""

    @abstractmethod
    def batch(self, index: int) -> tuple[np.ndarray, ...]:
        """The arrays of the ``index``-th batch of the run: a pure function of the config and ``index``."""

    @abstractmethod
    def loss(self, model: Any, batch: tuple[Tensor, ...], seed: Tensor) -> Tensor:
        """The mean loss in nats of a batch, as tensors on the model's device."""

    @abstractmethod
    def evaluate(self, model: Any, split: str, limit: int) -> Measurement:
        """The config's ``metric`` (less is better) on the first ``limit`` of a split, counted in the task's own unit."""

    def validate(self, model: Any) -> Measurement:
        """``evaluate`` as much of the validation split as the config says."""
        return self.evaluate(model, "validation", getattr(self.config, self.config.eval_count))

    @abstractmethod
    def evaluations(self, model: Any, options: Any, progress: ProgressReport = silent) -> Iterator[Evaluated]:
        """The whole table for ``options``, of the config's class ``eval_options``, line by line; the yardsticks last."""

    @abstractmethod
    def held_out(self, split: str, n_windows: int) -> Iterator[np.ndarray]:
        """What the model reads, int64 [L], in each of the first ``n_windows`` windows of a split."""

    def card(self) -> dict[str, Any]:
        """The data's part of the run card: "source", "checksums", "splits" and whatever else the corpus tells of itself."""
        if self.corpus is None:
            return {
                "source": self.made_from,
                "checksums": "none: drawn from (seed, step)",
                "splits": "endless; evaluation draws from other seeds",
            }
        card = self.corpus.card
        splits = card["splits"]
        return {
            "source": card.get("source", self.corpus.name),
            "name": self.corpus.name,
            "checksums": {name: split["sha256"] for name, split in splits.items()},
            "splits": {name: split["bytes"] for name, split in splits.items()},
            **{name: value for name, value in card.items() if name not in ("splits", "source", "name")},
        }
