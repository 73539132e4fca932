"""LSH and local attention with plain Python loops over tokens, written from the words of the definition.

Nothing is shared with the ops: sets of token numbers come from sorting tuples, sums are Python floats. For small inputs.
"""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

Row = Sequence[int]


def lsh_attention_oracle(
    qk: Tensor,
    v: Tensor,
    buckets: Tensor,
    *,
    chunk_len: int,
    pattern: str = "paper",
    causal: bool = True,
    window: int | None = None,
    n_chunks_before: int = 1,
    n_chunks_after: int = 0,
    segment_ids: Tensor | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """(out, lse) of ``reformer.ops.lsh_attention`` in float64, token by token, without dropout."""
    B, H, L, _ = qk.shape
    out = torch.zeros(*v.shape, dtype=torch.float64, device="cpu")
    lse = torch.full((B, H, L), -math.inf, dtype=torch.float64, device="cpu")
    for b in range(B):
        segments = [0] * L if segment_ids is None else segment_ids[b].tolist()
        for h in range(H):
            seen = tokens_seen(
                buckets[b, h].tolist(),
                segments,
                chunk_len=chunk_len,
                pattern=pattern,
                causal=causal,
                window=window,
                n_chunks_before=n_chunks_before,
                n_chunks_after=n_chunks_after,
            )
            queries = qk[b, h].double().tolist()
            _attend(queries, [_unit(q) for q in queries], v[b, h].double().tolist(), seen, scale, out[b, h], lse[b, h])
    return out, lse


def local_attention_oracle(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    *,
    causal: bool = True,
    chunk_len: int | None = None,
    n_chunks_before: int = 1,
    n_chunks_after: int = 0,
    window: int | None = None,
    wrap: bool = False,
    segment_ids: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(out, lse) of ``reformer.ops.local_attention`` in float64; neither ``chunk_len`` nor ``window``: full attention."""
    B, H, L, D = q.shape
    out = torch.zeros(*v.shape, dtype=torch.float64, device="cpu")
    lse = torch.full((B, H, L), -math.inf, dtype=torch.float64, device="cpu")
    if scale is None:
        scale = 1.0 if k is None else 1.0 / math.sqrt(D)
    for b in range(B):
        segments = [0] * L if segment_ids is None else segment_ids[b].tolist()
        seen = places_seen(
            segments,
            shared_qk=k is None,
            causal=causal,
            chunk_len=chunk_len,
            n_chunks_before=n_chunks_before,
            n_chunks_after=n_chunks_after,
            window=window,
            wrap=wrap,
        )
        for h in range(H):
            queries = q[b, h].double().tolist()
            keys = [_unit(x) for x in queries] if k is None else k[b, h].double().tolist()
            _attend(queries, keys, v[b, h].double().tolist(), seen, scale, out[b, h], lse[b, h])
    return out, lse


def tokens_seen(
    rounds: Sequence[Row],
    segments: Row,
    *,
    chunk_len: int,
    pattern: str,
    causal: bool,
    window: int | None = None,
    n_chunks_before: int = 1,
    n_chunks_after: int = 0,
) -> list[Counter[int]]:
    """For each token, which tokens LSH attention sees and how often; ``rounds`` holds the bucket of each token [R][L]."""
    real = [i for i, segment in enumerate(segments) if segment >= 0]
    seen: list[Counter[int]] = [Counter() for _ in segments]
    if pattern == "trax":
        _see_trax(seen, rounds, segments, real, chunk_len, n_chunks_before, n_chunks_after)
    else:
        for bucket in rounds:
            for i, visible in _seen_in_round(
                bucket, segments, real, chunk_len, pattern, window, n_chunks_before, n_chunks_after
            ):
                seen[i] |= Counter(dict.fromkeys(visible, 1))
    return [_without_self(i, counts, causal) for i, counts in enumerate(seen)]


def places_seen(
    segments: Row,
    *,
    shared_qk: bool,
    causal: bool,
    chunk_len: int | None,
    n_chunks_before: int = 1,
    n_chunks_after: int = 0,
    window: int | None = None,
    wrap: bool = False,
) -> list[Counter[int]]:
    """For each token, which tokens local attention sees; places are counted within the token's own segment.

    ``wrap``: as "trax" with a single round and a single bucket.
    """
    seen: list[Counter[int]] = [Counter() for _ in segments]
    if wrap:
        assert chunk_len is not None
        real = [i for i, segment in enumerate(segments) if segment >= 0]
        _see_trax(seen, [[0] * len(segments)], segments, real, chunk_len, n_chunks_before, n_chunks_after)
        if shared_qk:
            return [_without_self(i, counts, causal) for i, counts in enumerate(seen)]
        return [Counter({j: n for j, n in counts.items() if not (causal and j > i)}) for i, counts in enumerate(seen)]
    for segment in {s for s in segments if s >= 0}:
        members = [i for i, s in enumerate(segments) if s == segment]
        for place_i, i in enumerate(members):
            for place_j, j in enumerate(members):
                if chunk_len is not None:
                    ahead = place_j // chunk_len - place_i // chunk_len
                    near = -n_chunks_before <= ahead <= n_chunks_after
                else:
                    near = window is None or abs(place_j - place_i) <= window
                if near and not (causal and j > i):
                    seen[i][j] = 1
    return [_without_self(i, counts, causal) for i, counts in enumerate(seen)] if shared_qk else seen


def _seen_in_round(
    bucket: Row,
    segments: Row,
    real: Row,
    chunk_len: int,
    pattern: str,
    window: int | None,
    before: int,
    after: int,
) -> list[tuple[int, list[int]]]:
    in_order = [token for _, _, token in sorted((segments[i], bucket[i], i) for i in real)]
    chunk_of = {token: place // chunk_len for place, token in enumerate(in_order)}
    result = []
    for i in real:
        mates = [j for j in real if segments[j] == segments[i] and bucket[j] == bucket[i]]
        if pattern == "paper":
            visible = [j for j in mates if -before <= chunk_of[j] - chunk_of[i] <= after]
        else:
            place = {j: n for n, j in enumerate(mates)}
            visible = [j for j in mates if window is None or abs(place[j] - place[i]) <= window]
        result.append((i, visible))
    return result


def _see_trax(
    seen: list[Counter[int]],
    rounds: Sequence[Row],
    segments: Row,
    real: Row,
    chunk_len: int,
    before: int,
    after: int,
) -> None:
    padding = [i for i, segment in enumerate(segments) if segment < 0]
    chunks: list[list[int]] = []
    for bucket in rounds:
        in_order = [token for _, _, token in sorted((segments[i], bucket[i], i) for i in real)] + padding
        chunks += [in_order[first : first + chunk_len] for first in range(0, len(in_order), chunk_len)]
    for c, chunk in enumerate(chunks):
        for ahead in range(-before, after + 1):
            for i in chunk:
                for j in chunks[(c + ahead) % len(chunks)]:
                    if segments[i] >= 0 and segments[j] == segments[i]:
                        seen[i][j] += 1


def _without_self(i: int, counts: Counter[int], causal: bool) -> Counter[int]:
    others = Counter({j: n for j, n in counts.items() if (j < i if causal else j != i)})
    return others if others else Counter({j: n for j, n in counts.items() if j == i})


def _unit(x: Sequence[float]) -> list[float]:
    norm = math.sqrt(sum(value * value for value in x))
    return [value / norm if norm > 0.0 else 0.0 for value in x]


def _attend(
    queries: Sequence[Sequence[float]],
    keys: Sequence[Sequence[float]],
    values: Sequence[Sequence[float]],
    seen: Sequence[Counter[int]],
    scale: float,
    out: Tensor,
    lse: Tensor,
) -> None:
    for i, counts in enumerate(seen):
        if not counts:
            continue
        logits = {j: scale * sum(a * b for a, b in zip(queries[i], keys[j])) for j in counts}
        highest = max(logits.values())
        weights = {j: n * math.exp(logits[j] - highest) for j, n in counts.items()}
        total = sum(weights.values())
        lse[i] = highest + math.log(total)
        for e in range(out.shape[-1]):
            out[i, e] = sum(weights[j] * values[j][e] for j in counts) / total
