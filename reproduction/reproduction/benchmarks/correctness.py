"""No number is printed for an op that is wrong: hashing, and each implementation against the definition with gradients."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import torch

from reformer.ops import (
    choose_implementation,
    hash_vectors,
    local_attention,
    lsh_attention,
    random_rotations,
    sort_by_bucket,
)
from reformer.testing import assert_close_to_float64, exact_normal, lsh_inputs
from reproduction.benchmarks.benchmark import DTYPES

# Odd lengths, about a chunk, many chunks; head sizes that are no power of two, and differ for values.
_LSH_SHAPES: tuple[dict[str, Any], ...] = (
    {"length": 1, "n_hashes": 1, "head_dim": 8, "value_dim": 8},
    {"length": 63, "n_hashes": 2, "head_dim": 20, "value_dim": 12, "layout": "left"},
    {"length": 100, "n_hashes": 4, "head_dim": 16, "value_dim": 16, "layout": "packed"},
    {"length": 257, "n_hashes": 3, "head_dim": 64, "value_dim": 64},
)
_BUCKETS = (6, 8)
_NEAR_TIE = 1e-4
_LOCAL_LENGTHS = (1, 65, 100)
_CHUNK = 32
_IMPLEMENTATIONS = ("triton", "native", "eager")


class OpsIncorrect(ValueError):
    """An implementation does not compute what it should; the message is one line."""


def require_correct(device: str, dtypes: tuple[str, ...]) -> list[str]:
    """Check all implementations that ``device`` has, in each dtype; the names of those checked.

    Raises OpsIncorrect naming the implementation, the case and the difference.
    """
    for dtype in dtypes:
        _require("hashing", dtype, "hash_vectors and sort_by_bucket", partial(_check_hashing, device, dtype))
    served = [(name, dtype) for name, dtype in product(_IMPLEMENTATIONS, dtypes) if _serves(name, device, dtype)]
    for name, dtype in served:
        for seed, shape in enumerate(_LSH_SHAPES):
            check = partial(_check_lsh, name, device, dtype, shape, seed)
            _require(f"impl={name!r}", dtype, f"lsh_attention, {shape}", check)
        for length in _LOCAL_LENGTHS:
            check = partial(_check_local, name, device, dtype, length)
            _require(f"impl={name!r}", dtype, f"local_attention, length {length}", check)
    return [f"{name} ({dtype})" for name, dtype in served]


def _serves(name: str, device: str, dtype: str) -> bool:
    try:
        choose_implementation(name, torch.device(device), DTYPES[dtype], 64)
    except ValueError:
        return False
    return True


def _require(who: str, dtype: str, what: str, check: Callable[[], None]) -> None:
    try:
        check()
    except AssertionError as error:
        words = " ".join(str(error).split())[:300]
        raise OpsIncorrect(
            f"no benchmark while {who} is wrong in {dtype}: {what}: {words}; see: pytest tests/ops"
        ) from error


def _check_hashing(device: str, dtype: str) -> None:
    x = exact_normal(2, 2, 257, 20).to(device, DTYPES[dtype])
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotations(
        20, n_hashes=3, n_buckets=_BUCKETS, n_heads=2, generator=generator, dtype=torch.float64, device=device
    )
    # Rounded first, so that only the product's own rounding is left to differ.
    rotations = rotations.float().double()
    buckets = hash_vectors(x, rotations.to(torch.float64 if dtype == "float64" else torch.float32), _BUCKETS)
    scores = torch.einsum("bhld,hdrc->bhrlc", x.double(), rotations)
    rest = buckets
    for part, factor in zip(torch.split(scores, [factor // 2 for factor in _BUCKETS], dim=-1), _BUCKETS):
        both = torch.cat([part, -part], dim=-1)
        chosen = both.gather(-1, (rest % factor).unsqueeze(-1)).squeeze(-1)
        # A near tie may fall either way.
        short = float((both.amax(-1) - chosen).max())
        assert short <= _NEAR_TIE, f"a bucket's score is {short:.2e} below the largest"
        rest = rest // factor
    assert not rest.any(), "a bucket beyond their number"
    order = torch.sort(buckets, dim=-1, stable=True).indices
    assert torch.equal(sort_by_bucket(buckets).long(), order), "the sort by bucket is not the stable one"


def _check_lsh(name: str, device: str, dtype: str, shape: dict[str, Any], seed: int) -> None:
    inputs = lsh_inputs(**shape, seed=seed)
    segments = None if inputs.segment_ids is None else inputs.segment_ids.to(device)
    options: dict[str, Any] = {"buckets": inputs.buckets.to(device), "segment_ids": segments}
    _compare(partial(lsh_attention, **options), name, (inputs.qk.to(device), inputs.v.to(device)), dtype)


def _check_local(name: str, device: str, dtype: str, length: int) -> None:
    tensors = tuple(exact_normal(2, 2, length, 16, seed=seed).to(device) for seed in range(3))
    _compare(local_attention, name, tensors, dtype)


def _compare(op: Callable[..., Any], name: str, tensors: tuple[torch.Tensor, ...], dtype: str) -> None:
    ours, definition = (partial(op, chunk_len=_CHUNK, return_lse=True, impl=impl) for impl in (name, "reference"))
    _, lse = definition(*tensors)
    assert_close_to_float64(ours, definition, tensors, DTYPES[dtype], lse=lse)
