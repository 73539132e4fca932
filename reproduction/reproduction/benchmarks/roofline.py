"""What an attention must at least do, and what the machine can do at most, both counted or measured here.

The fraction of the roofline is max(operations / measured peak, bytes / measured bandwidth) over the measured time.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from reproduction.benchmarks.attention import BOTH
from reproduction.benchmarks.benchmark import DTYPES, Bench
from reproduction.rows import Row
from reproduction.timing import seconds_of
from reproduction.worker import Worker

# Products of queries (or gradients) with keys (or values), two in a forward pass; five in a backward pass, which makes
# the weights again.
_FORWARD_PRODUCTS, _BACKWARD_PRODUCTS = 2, 5
# Tensors [B, H, L, D] read and written: qk, v, out; and in backward qk, v, out and its gradient, two gradients.
_FORWARD_TENSORS, _BACKWARD_TENSORS = 3, 6
_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
_TAKES = 5


class Ceilings:
    """Largest product and largest copy rate of this machine (``worker``)."""

    def __init__(self, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._device = device

    def measure(self, dtype: str) -> dict[str, float]:
        """Floating-point operations a second of a large product; bytes a second of a large copy (read and written)."""
        size, copied = (8192, 2**30) if self._device == "cuda" else (2048, 2**27)
        a = torch.randn(size, size, dtype=torch.float32, device=self._device).to(DTYPES[dtype])
        source = torch.zeros(copied, dtype=torch.uint8, device=self._device)
        target = torch.empty_like(source)
        product, copy = (self._least(call) for call in (lambda: a @ a, lambda: target.copy_(source)))
        return {"median_s": product, "flops_per_s": 2 * size**3 / product, "bytes_per_s": 2 * copied / copy}

    def _least(self, call: Callable[[], object]) -> float:
        return min(seconds_of(call, self._device) for _ in range(_TAKES))


def measure_ceilings(bench: Bench, dtypes: tuple[str, ...]) -> list[Row]:
    """A row of ceilings for each dtype: from the file, or measured now."""
    rows = []
    machine = {"device": bench.device, "threads": bench.threads}
    with Worker(Ceilings, **machine) as worker:
        for dtype in dtypes:
            what = {"benchmark": "ceilings", "contender": "torch", **machine, "dtype": dtype}
            rows.append(bench.file.finished(what) or bench.file.add({**what, **worker.call("measure", dtype=dtype)}))
    return rows


def counted(row: Row) -> tuple[float, float]:
    """(floating-point operations, bytes) of an attention row: products of the pairs looked at; hashing left out.

    LSH: each token and round look at two chunks, and each round passes once over the tensors. Full causal attention: half
    of all pairs, one pass, in which the backward reads and writes two tensors more (keys are not queries).
    """
    tokens = row["batch"] * row["n_heads"] * row["seq_len"]
    both = row["direction"] == BOTH
    products = _FORWARD_PRODUCTS + (_BACKWARD_PRODUCTS if both else 0)
    tensors = _FORWARD_TENSORS + (_BACKWARD_TENSORS if both else 0)
    rounds, chunk_len = row.get("n_hashes"), row.get("chunk_len")
    if chunk_len is None:
        pairs, passes, tensors = tokens * row["seq_len"] / 2, 1, tensors + (3 if both else 1)
    else:
        pairs, passes = tokens * (rounds or 1) * 2 * chunk_len, rounds or 1
    flops = products * pairs * 2 * row["head_dim"]
    return flops, passes * tensors * tokens * row["head_dim"] * _ITEM_BYTES[row["dtype"]]


def fraction(row: Row, ceilings: Mapping[str, Any]) -> float:
    """The share of the roofline that an attention row reaches."""
    flops, moved = counted(row)
    least_s = max(flops / ceilings["flops_per_s"], moved / ceilings["bytes_per_s"])
    return float(least_s / row["median_s"])
