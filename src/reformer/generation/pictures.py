"""Pictures from a model of bytes: drawn from nothing, or completed from their first rows."""

from collections.abc import Callable, Sequence

import numpy as np

from reformer.generation.filters import SamplingConfig
from reformer.generation.text import stream
from reformer.models import ReformerLM


def draw_pictures(
    model: ReformerLM,
    size: int,
    beginnings: Sequence[np.ndarray],
    sampling: SamplingConfig,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """uint8 [n, size, size, 3], one picture for each of ``beginnings``, which hold its first rows [rows, size, 3].

    All of them begin with as many rows (0: drawn from nothing). Picture i has the draws of seed + i, so more pictures
    change none; ``seed`` fixes the rotations too. ``progress(done, total)`` counts bytes of one picture.
    Raises ValueError for beginnings of different or full height, and as ``stream``.
    """
    kept = {len(rows) for rows in beginnings}
    if len(kept) != 1 or not 0 <= max(kept) < size:
        raise ValueError(f"pictures begin with the same number of rows, 0 to {size - 1}, got {sorted(kept)}")
    prompts = [np.ascontiguousarray(rows, dtype=np.uint8).tobytes() for rows in beginnings]
    total = size * size * 3
    seeds = range(seed, seed + len(prompts))
    n_tokens = total - len(prompts[0])
    found = np.empty((len(prompts), n_tokens), dtype=np.uint8)
    steps = stream(model, prompts, n_tokens, sampling, seeds=seeds, rotation_seed=seed, max_len=total)
    for step, tokens in enumerate(steps):
        found[:, step] = [token or 0 for token in tokens]  # None comes of stop strings only
        progress(step + 1, n_tokens)
    given = np.stack([np.frombuffer(prompt, dtype=np.uint8) for prompt in prompts])
    return np.concatenate([given, found], axis=1).reshape(-1, size, size, 3)
