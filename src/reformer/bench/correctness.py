"""No number is printed for an op that is wrong: each implementation against the definition, outputs and gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from reformer.bench.contenders import DTYPES
from reformer.ops import local_attention, lsh_attention
from reformer.ops.implementations import NAMES, obstacle
from reformer.testing import assert_close_to_float64, exact_normal, lsh_inputs

# Odd lengths, about a chunk, many chunks; head sizes that are no power of two, and differ for values.
_LSH_SHAPES: tuple[dict[str, Any], ...] = (
    {"length": 1, "n_hashes": 1, "head_dim": 8, "value_dim": 8},
    {"length": 63, "n_hashes": 2, "head_dim": 20, "value_dim": 12, "layout": "left"},
    {"length": 100, "n_hashes": 4, "head_dim": 16, "value_dim": 16, "layout": "packed"},
    {"length": 257, "n_hashes": 3, "head_dim": 64, "value_dim": 64},
)
_LOCAL_LENGTHS = (1, 65, 100)
_CHUNK = 32


class OpsIncorrect(ValueError):
    """An implementation does not compute what it should; the message is one line."""


def require_correct(device: str, dtypes: tuple[str, ...]) -> list[str]:
    """Check all implementations that ``device`` has, in each dtype; the names of those checked.

    Raises OpsIncorrect naming the implementation, the case and the difference.
    """
    checked = []
    for name in NAMES:
        if name == "reference":
            continue
        for dtype in dtypes:
            if obstacle(name, torch.device(device), DTYPES[dtype], 64) is not None:
                continue
            _check(name, device, dtype)
            checked.append(f"{name} ({dtype})")
    return checked


def _check(name: str, device: str, dtype: str) -> None:
    checks: list[tuple[str, Callable[[], None]]] = [
        (f"lsh_attention, {shape}", partial(_check_lsh, name, device, dtype, shape, seed))
        for seed, shape in enumerate(_LSH_SHAPES)
    ]
    checks += [
        (f"local_attention, length {length}", partial(_check_local, name, device, dtype, length))
        for length in _LOCAL_LENGTHS
    ]
    for what, check in checks:
        try:
            check()
        except AssertionError as error:
            words = " ".join(str(error).split())[:300]
            raise OpsIncorrect(
                f"no benchmark while impl={name!r} is wrong in {dtype}: {what}: {words}; see: pytest tests/ops"
            ) from error


def _check_lsh(name: str, device: str, dtype: str, shape: dict[str, Any], seed: int) -> None:
    inputs = lsh_inputs(**shape, seed=seed)
    buckets = inputs.buckets.to(device)
    segments = None if inputs.segment_ids is None else inputs.segment_ids.to(device)

    def attention(impl):
        return lambda qk, v: lsh_attention(
            qk, v, buckets, chunk_len=_CHUNK, segment_ids=segments, return_lse=True, impl=impl
        )

    qk, v = inputs.qk.to(device), inputs.v.to(device)
    _, lse = attention("reference")(qk, v)
    assert_close_to_float64(attention(name), attention("reference"), (qk, v), DTYPES[dtype], lse=lse)


def _check_local(name: str, device: str, dtype: str, length: int) -> None:
    q, k, v = (exact_normal(2, 2, length, 16, seed=seed).to(device) for seed in range(3))

    def attention(impl):
        return lambda q, k, v: local_attention(q, k, v, chunk_len=_CHUNK, return_lse=True, impl=impl)

    _, lse = attention("reference")(q, k, v)
    assert_close_to_float64(attention(name), attention("reference"), (q, k, v), DTYPES[dtype], lse=lse)
