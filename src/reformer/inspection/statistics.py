"""What attention sees of what full attention would look at: sums over queries, in blocks, tensors in and out.

B batch, H heads, R rounds, L length, D head size, Q queries, V numbers of rounds, K values of k.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from reformer.inspection.visibility import Visibility, full_visible
from reformer.ops import Reach
from reformer.ops.keys import unit_keys

TOP_K = (1, 8, 32)
# Entries [B, H, Q, L] of one block of queries: what bounds memory at any length.
BLOCK_ENTRIES = 2**22


def evenly_spaced(length: int, n_queries: int) -> Tensor:
    """At most ``n_queries`` positions of 0..length-1, evenly spaced, the last one among them."""
    count = min(n_queries, length)
    return (torch.arange(1, count + 1, dtype=torch.int64, device="cpu") * length) // count - 1


def distance_bin(distance: Tensor) -> Tensor:
    """Bin 0: distance 0; bin b: distances 2^(b-1) to 2^b - 1, on either side."""
    return torch.frexp(distance.abs().double()).exponent.long()


def n_distance_bins(length: int) -> int:
    """Bins that the distances of ``length`` tokens fall into."""
    return (length - 1).bit_length() + 1


def attention_sums(
    q: Tensor,
    k: Tensor | None,
    visibility: Visibility,
    rows: Tensor,
    *,
    scale: float,
    rounds: Sequence[int] = (1,),
    own_rounds: int = 1,
    top_k: Sequence[int] = TOP_K,
) -> dict[str, Tensor]:
    """Sums over the real queries at ``rows``, in float64; the truth is full attention of the same q and k.

    V: after the first r rounds, r in ``rounds`` (rising; ``own_rounds``, the model's, among them).

    ``queries`` [B, H]; ``keys`` [B, H, V] share of the keys of full attention that are seen; ``mass`` [B, H, V] share of
    its probability; ``top`` [B, H, V, K] share of the query's k likeliest keys (all it has, if fewer); ``distance_full``
    [B, H, bins] mass by ``distance_bin``, and ``distance_own`` that of softmax over the keys seen in ``own_rounds``, each
    as often as it counts. With buckets also ``same_bucket`` [B, H]: pairs that share a bucket in one of ``own_rounds``,
    and ``same_bucket_seen``, those that are seen.
    """
    keys = _wide(unit_keys(q) if k is None else k).transpose(-1, -2)
    B, H, L, _ = q.shape
    total: dict[str, Tensor] = {}
    for block in rows.split(max(1, BLOCK_ENTRIES // (B * H * L))):
        full = full_visible(visibility.segments, block, causal=visibility.reach.causal, shared_qk=k is None)
        logits = (scale * _wide(q[:, :, block]) @ keys).masked_fill(~full, -torch.inf)
        truth = _Truth(logits, full, block, top_k)
        sums, seen = truth.sums(), []
        for r, counts in zip(rounds, visibility.counts(block, rounds)):
            seen.append(truth.seen_sums(counts))
            if r == own_rounds:
                sums["distance_own"] = truth.distance(counts)
            if r == own_rounds and visibility.buckets is not None:
                same = visibility.same_bucket(block, r)
                sums["same_bucket"], sums["same_bucket_seen"] = _count(same), _count(same & (counts > 0))
        sums |= {name: torch.stack([of_view[name] for of_view in seen], dim=2) for name in seen[0]}
        for name, value in sums.items():
            total[name] = total[name] + value if name in total else value
    return total


class _Truth:
    """Full attention of one block of queries."""

    def __init__(self, logits: Tensor, full: Tensor, rows: Tensor, top_k: Sequence[int]) -> None:
        self.logits, self.full, self.top_k = logits, full, top_k
        self.mass = _softmax(logits)
        self.n_keys = full.sum(-1)
        # By logit: probabilities far from the best round to 0, and would all be equal.
        self.best = logits.topk(min(max(top_k), logits.shape[-1]), dim=-1).indices
        distance = rows[:, None] - torch.arange(logits.shape[-1], dtype=torch.int64, device=rows.device)
        self.bins, self.n_bins = distance_bin(distance), n_distance_bins(logits.shape[-1])

    def sums(self) -> dict[str, Tensor]:
        """What does not depend on what is seen."""
        heads = self.mass.shape[:2]
        return {
            "queries": (self.n_keys > 0).sum(-1).double().expand(heads),
            "distance_full": self._by_distance(self.mass),
        }

    def seen_sums(self, counts: Tensor) -> dict[str, Tensor]:
        """Shares of keys, mass [B, H] and likeliest keys [B, H, K] that are counted at all."""
        seen = ((counts > 0) & self.full).expand_as(self.mass)
        hit = seen.gather(-1, self.best)
        possible = [self.n_keys.clamp(1, k) for k in self.top_k]
        top = [(hit[..., :k].sum(-1).double() / n).sum(-1) for k, n in zip(self.top_k, possible)]
        return {
            "keys": (seen.sum(-1).double() / self.n_keys.clamp_min(1)).sum(-1),
            "mass": (self.mass * seen).sum(-1).sum(-1, dtype=torch.float64),
            "top": torch.stack(top, dim=-1),
        }

    def distance(self, counts: Tensor) -> Tensor:
        """Mass [B, H, bins] of the attention that counts these keys."""
        # A query that sees itself alone has a logit of its own there, which full attention hides.
        logits = self.logits.masked_fill((counts > 0) & ~self.full, 0.0)
        return self._by_distance(_softmax(logits + counts.to(logits.dtype).log()))

    def _by_distance(self, mass: Tensor) -> Tensor:
        bins = mass.new_zeros(*mass.shape[:-1], self.n_bins)
        return bins.scatter_add_(-1, self.bins.expand_as(mass), mass).sum(-2, dtype=torch.float64)


def recall_by_rounds(
    q: Tensor,
    buckets: Tensor,
    reach: Reach,
    *,
    segment_ids: Tensor | None = None,
    scale: float = 1.0,
    rounds: Sequence[int] | None = None,
    n_queries: int = 1024,
    top_k: Sequence[int] = TOP_K,
) -> dict[str, Tensor]:
    """How much of full attention the first r rounds of LSH attention see, averaged over evenly spaced queries.

    ``reach``: a ``Reach.lsh``; other arguments as in ``lsh_attention``. ``rounds`` rising, default 1..R. Returns
    {"mass": [B, H, V], "top": [B, H, V, K], "keys": [B, H, V]}: share of the attention mass, of the ``top_k`` likeliest
    keys, and of all keys (what attention without preferences would recall); NaN for a row of padding. Raises ValueError
    for numbers of rounds that do not rise or are beyond the buckets'.
    """
    R, L = buckets.shape[2:]
    rounds = tuple(range(1, R + 1)) if rounds is None else tuple(rounds)
    if not rounds or list(rounds) != sorted(set(rounds)) or rounds[0] < 1 or rounds[-1] > R:
        raise ValueError(f"rounds must be rising numbers from 1 to {R}, as buckets has {R} rounds; got {rounds}")
    segments = segment_ids if segment_ids is not None else torch.zeros_like(buckets[:, 0, 0], dtype=torch.int64)
    rows = evenly_spaced(L, n_queries).to(q.device)
    visibility = Visibility(reach, segments, buckets)
    sums = attention_sums(q, None, visibility, rows, scale=scale, rounds=rounds, own_rounds=rounds[-1], top_k=top_k)
    queries = sums["queries"][..., None]
    return {name: sums[name] / (queries[..., None] if name == "top" else queries) for name in ("mass", "top", "keys")}


def bucket_sizes(buckets: Tensor, n_buckets: int, segment_ids: Tensor | None = None) -> Tensor:
    """Real tokens in each bucket [B, H, R, n_buckets], of ``buckets`` [B, H, R, L]; ``segment_ids`` [B, L] < 0: padding."""
    sizes = torch.zeros(*buckets.shape[:3], n_buckets, dtype=torch.int64, device=buckets.device)
    real = torch.ones_like(buckets, dtype=torch.int64)
    if segment_ids is not None:
        real = real * (segment_ids >= 0)[:, None, None]
    return sizes.scatter_add_(-1, buckets.long(), real)


def effective_buckets(sizes: Tensor) -> Tensor:
    """exp(entropy) of the shares of ``sizes`` [..., n_buckets]: n if n buckets share the tokens evenly; 0 without tokens."""
    share = sizes.double() / sizes.sum(-1, keepdim=True).clamp_min(1)
    entropy = -torch.special.xlogy(share, share).sum(-1)
    return torch.where(sizes.sum(-1) > 0, entropy.exp(), 0.0)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _softmax(logits: Tensor) -> Tensor:
    # A query that sees nothing, which is padding, has no mass at all.
    nothing = (logits == -torch.inf).all(-1, keepdim=True)
    return torch.softmax(logits.masked_fill(nothing, 0.0), dim=-1).masked_fill(nothing, 0.0)


def _count(pairs: Tensor) -> Tensor:
    return pairs.sum((-1, -2)).double()
