"""Bits per byte by the position of the byte in its window: what a longer context is worth."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch

from reformer.data import evaluation_windows
from reformer.evaluation.mean_bits import evaluating
from reformer.models import ReformerLM
from reformer.tasks.text import TextTask


def evaluate_positions(
    task: TextTask, model: ReformerLM, split: str, limit: int, edges: Sequence[int]
) -> list[tuple[int, float]]:
    """(edge, bits per byte of the bytes from the edge before up to this one) in whole windows of the first ``limit`` bytes.

    Raises ValueError for a masked task and where no whole window fits.
    """
    if task.config.objective != "causal":
        raise ValueError(f"bits per byte by position are those of a causal model, not {task.config.objective}")
    length = task.config.seq_len
    windows = evaluation_windows(task.corpus.split(split), length, limit=limit)
    whole = (window for window, _ in windows if len(window) == length)
    return list(zip(edges, bits_by_position(model, whole, edges)))


def bits_by_position(
    model: ReformerLM, windows: Iterable[np.ndarray], edges: Sequence[int], *, seed: int = 0
) -> list[float]:
    """Mean bits of the positions from one edge up to the next, of a causal model over ``windows`` [L] of one length.

    ``edges`` ascend to at most L; the first range begins at 0. Raises ValueError if they do not, or without windows.
    """
    device = model.norm.weight.device
    total, count = torch.zeros((), dtype=torch.float64, device=device), 0
    with evaluating(model):
        for window in windows:
            tokens = torch.from_numpy(window[None]).to(device)
            nll = model(model.shift_right(tokens), targets=tokens, seed=seed, reduction="none")[0]
            total, count = total + nll.double(), count + 1
    if count == 0:
        raise ValueError("nothing to evaluate: no window")
    ends = [0, *edges]
    if any(a >= b for a, b in pairwise(ends)) or ends[-1] > len(total):
        raise ValueError(f"edges {list(edges)} do not ascend from above 0 to at most the window's {len(total)}")
    return [total[a:b].mean().item() / count / math.log(2) for a, b in pairwise(ends)]
