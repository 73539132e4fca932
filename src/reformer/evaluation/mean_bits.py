"""Bits of held-out tokens: bits per byte where they are bytes of text, bits per dim where they are bytes of pictures."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from reformer.models import ReformerLM


class MeanBits(NamedTuple):
    """``bits`` of each of ``n`` scored tokens on the average, and where guesses were made, the share of right ones."""

    bits: float
    n: int
    accuracy: float | None = None


def mean_bits(
    model: ReformerLM,
    windows: Iterable[tuple[np.ndarray, int]],
    *,
    seed: int = 0,
    batch_size: int = 1,
) -> MeanBits:
    """The bits of a causal model over ``windows`` of (tokens [<= L], number scored at the end).

    Each scored token is predicted from those before it in its window only (the first from the start id). ``seed``
    fixes the hash rotations: the same call gives the same number. Raises ValueError if nothing is scored.
    """
    device = model.norm.weight.device
    total, count = 0.0, 0
    with evaluating(model):
        for batch in _batches(windows, batch_size):
            tokens = torch.from_numpy(np.stack([window for window, _ in batch])).to(device)
            nll = model(model.shift_right(tokens), targets=tokens, seed=seed, reduction="none")
            for row, (window, scored) in enumerate(batch):
                total += nll[row, len(window) - scored :].double().sum().item()
                count += scored
    if count == 0:
        raise ValueError("nothing to evaluate: the held-out data is empty")
    return MeanBits(total / count / math.log(2), count)


def masked_mean_bits(
    model: ReformerLM, batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], *, seed: int = 0
) -> MeanBits:
    """The bits of the hidden positions of (inputs, targets, mask) [B, L] of a bidirectional model."""
    device = model.norm.weight.device
    total, count = 0.0, 0
    with evaluating(model):
        for inputs, targets, mask in batches:
            hidden_targets = torch.from_numpy(np.where(mask, targets, -100)).to(device)
            loss = model(torch.from_numpy(inputs).to(device), targets=hidden_targets, seed=seed, reduction="sum")
            total += loss.double().item()
            count += int(mask.sum())
    if count == 0:
        raise ValueError("nothing to evaluate: no position is hidden")
    return MeanBits(total / count / math.log(2), count)


def scored_accuracy(model: ReformerLM, batches: Iterable[tuple[np.ndarray, np.ndarray]], *, seed: int = 0) -> MeanBits:
    """Accuracy and bits where ``mask`` is True, of (sequence, mask) [B, L]: duplication and recall."""
    device = model.norm.weight.device
    right, total, count = 0, 0.0, 0
    with evaluating(model):
        for index, (sequence, mask) in enumerate(batches):
            tokens, scored = torch.from_numpy(sequence).to(device), torch.from_numpy(mask).to(device)
            # Fresh rotations for each batch: the average over hashes is what the paper's table reports.
            logits = model(model.shift_right(tokens), seed=seed + index)
            right += int((logits.argmax(-1) == tokens)[scored].sum())
            total += torch.nn.functional.cross_entropy(logits[scored].double(), tokens[scored], reduction="sum").item()
            count += int(scored.sum())
    return MeanBits(total / count / math.log(2), count, right / count)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode before is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def _batches(windows: Iterable[tuple[np.ndarray, int]], batch_size: int) -> Iterator[list[tuple[np.ndarray, int]]]:
    batch: list[tuple[np.ndarray, int]] = []
    for window in windows:
        if batch and (len(batch) == batch_size or len(window[0]) != len(batch[0][0])):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
