"""A model's attention over some windows, as plain rows: one per layer and head."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reformer.inspection.capture import Captured, capture
from reformer.inspection.statistics import (
    TOP_K,
    attention_sums,
    bucket_sizes,
    distance_bin,
    effective_buckets,
    evenly_spaced,
)
from reformer.inspection.visibility import Visibility
from reformer.layers import FullSelfAttention, LocalSelfAttention, LSHSelfAttention
from reformer.models import ReformerLM
from reformer.ops import automatic_n_buckets, bucket_factors, derive_seed, seeded_buckets
from reformer.ops.attention.local import logit_scale

Row = dict[str, Any]

# Sub-stream of the seed for hash rounds beyond the model's own.
_MORE_ROUNDS = 7
_KINDS = {LSHSelfAttention: "lsh", LocalSelfAttention: "local", FullSelfAttention: "full"}


@dataclass(kw_only=True)
class _Layer:
    """Sums of one layer over the windows so far."""

    kind: str
    rounds: tuple[int, ...] = ()
    sums: dict[str, Tensor] = field(default_factory=dict)
    sizes: list[Tensor] = field(default_factory=list)


def inspect_model(
    model: ReformerLM,
    windows: Iterable[np.ndarray],
    *,
    seed: int = 0,
    n_queries: int = 1024,
    rounds: Sequence[int] = (),
) -> list[Row]:
    """Rows {"layer", "kind", "head", ...} over the inputs ``windows`` (int64 [L] each); docs/inspect.md tells of each.

    Window n runs under ``seed`` + n. ``rounds``: numbers of hash rounds to tell the recall of beside 1..n_hashes; those
    beyond the model's own are drawn in addition, on the same q. Raises ValueError if there is no window.
    """
    layers: dict[int, _Layer] = {}
    device = model.norm.weight.device
    for number, window in enumerate(windows):

        def receive(captured: Captured, seed: int = seed + number) -> None:
            layer = layers.setdefault(captured.index, _Layer(kind=_KINDS[type(captured.attention)]))
            _merge(layer.sums, _measure(layer, captured, n_queries, rounds, seed))

        capture(model, torch.from_numpy(window)[None].to(device), seed + number, receive)
    if not layers:
        raise ValueError("nothing to inspect: there is no window")
    return [
        _row(index, head, layer)
        for index, layer in sorted(layers.items())
        for head in range(layer.sums["queries"].shape[0])
    ]


def distance_labels(n_bins: int) -> list[str]:
    """The distances of each bin: "0", "1", "2-3", "4-7", ..."""
    lows = [0, *(2**b for b in range(n_bins - 1))]
    return [str(low) if low < 2 else f"{low}-{2 * low - 1}" for low in lows]


def _measure(layer: _Layer, captured: Captured, n_queries: int, rounds: Sequence[int], seed: int) -> dict[str, Tensor]:
    q, attention, buckets = captured.q, captured.attention, captured.buckets
    L = q.shape[2]
    rounds_seen: tuple[int, ...] = (1,)
    own = 1
    if isinstance(attention, LSHSelfAttention):
        assert buckets is not None
        n_buckets = attention.n_buckets or automatic_n_buckets(L, attention.chunk_len)
        layer.sizes.append(bucket_sizes(buckets, int(np.prod(bucket_factors(n_buckets)))).cpu())
        own = attention.n_hashes
        rounds_seen = layer.rounds = tuple(sorted({*range(1, own + 1), *rounds}))
        if rounds_seen[-1] > own:
            seed_of_more = derive_seed(torch.tensor(seed, dtype=torch.int64), _MORE_ROUNDS, captured.index)
            more = seeded_buckets(
                q,
                seed_of_more,
                n_hashes=rounds_seen[-1] - own,
                n_buckets=attention.n_buckets,
                chunk_len=attention.chunk_len,
            )
            buckets = torch.cat([buckets, more.to(buckets.dtype)], dim=2)
    segments = torch.zeros(1, L, dtype=torch.int64, device=q.device)
    return attention_sums(
        q,
        captured.k,
        Visibility(attention.reach, segments, buckets),
        evenly_spaced(L, n_queries).to(q.device),
        scale=logit_scale(q, captured.k, attention.scale),
        rounds=rounds_seen,
        own_rounds=own,
    )


def _merge(total: dict[str, Tensor], sums: dict[str, Tensor]) -> None:
    """Add sums [1, H, ...]; a shorter window has fewer distance bins."""
    for name, value in sums.items():
        value = value[0].cpu()
        if name in total:
            before = total[name]
            if before.shape[-1] < value.shape[-1]:
                before, value = value, before
            value, short = before.clone(), value
            value[..., : short.shape[-1]] += short
        total[name] = value


def _row(index: int, head: int, layer: _Layer) -> Row:
    sums = {name: value[head] for name, value in layer.sums.items()}
    row: Row = {"layer": index, "kind": layer.kind, "head": head, "queries": int(sums["queries"])}
    if layer.kind == "lsh":
        rounds_of_windows = zip(*(of_window[0, head] for of_window in layer.sizes))
        row["occupancy"] = [_occupancy(list(sizes)) for sizes in rounds_of_windows]
        pairs = float(sums["same_bucket"])
        row["same_bucket_seen"] = float(sums["same_bucket_seen"] / pairs) if pairs else None
    if layer.kind != "full":
        row["recall"] = [_recall(sums, view, rounds) for view, rounds in enumerate(layer.rounds or (None,))]
        row["distance_own"] = (sums["distance_own"] / sums["queries"]).tolist()
    row["distance_full"] = (sums["distance_full"] / sums["queries"]).tolist()
    return row


def _recall(sums: dict[str, Tensor], view: int, rounds: int | None) -> Row:
    top = (sums["top"][view] / sums["queries"]).tolist()
    shares = {name: float(sums[name][view] / sums["queries"]) for name in ("keys", "mass")}
    return {"rounds": rounds, **shares, **{f"top{k}": share for k, share in zip(TOP_K, top)}}


def _occupancy(windows: list[Tensor]) -> Row:
    """Of one round, over the buckets of all windows, whose sizes [n_buckets] each gives."""
    sizes = torch.cat(windows)
    bins = distance_bin(sizes)
    effective = [float(effective_buckets(of_window)) for of_window in windows]
    quantiles = sizes.double().quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)).tolist()
    return {
        "n_buckets": len(windows[0]),
        "effective_buckets": sum(effective) / len(effective),
        "empty_share": float((sizes == 0).double().mean()),
        "sizes": dict(zip(("min", "p25", "median", "p75", "max"), quantiles)),
        "histogram": (torch.bincount(bins) / len(sizes)).tolist(),
    }
