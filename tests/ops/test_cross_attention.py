"""Cross-attention against its formula, in any lengths, with padding and dropout."""

import itertools

import pytest
import torch

from reformer.ops import cross_attention
from reformer.testing import assert_close_to_float64, exact_normal

from .helpers import refuses

LENGTHS = [(1, 1), (1, 5), (7, 1), (3, 64), (12, 10), (17, 33)]


def tensors(T: int, S: int, D: int = 4, E: int = 3):
    return [exact_normal(*shape, seed=n) for n, shape in enumerate(((2, 3, T, D), (2, 3, S, D), (2, 3, S, E)))]


def padding(kind: str, S: int) -> torch.Tensor | None:
    if kind == "none":
        return None
    if kind == "one row of nothing":
        return torch.tensor([[-1], [4]]).repeat(1, S)
    # Ids neither start at 0 nor are contiguous; at least one key of each row is left.
    return torch.where((torch.arange(S) + torch.arange(2)[:, None]) % 3 == 2 % S, -7, 5)


def by_loops(key_segment_ids=None, scale=None, query_segment_ids=None):
    def sees(b: int, i: int, j: int) -> bool:
        key = 0 if key_segment_ids is None else key_segment_ids[b, j]
        return key_segment_ids is None or bool(
            key >= 0 and (query_segment_ids is None or query_segment_ids[b, i] == key)
        )

    def function(q, k, v):
        out = q.new_zeros(*q.shape[:3], v.shape[-1])
        for b, h, i in itertools.product(*map(range, q.shape[:3])):
            seen = [j for j in range(k.shape[2]) if sees(b, i, j)]
            if seen:
                logits = torch.stack([(q[b, h, i] * k[b, h, j]).sum() for j in seen])
                weights = torch.softmax(logits * (q.shape[-1] ** -0.5 if scale is None else scale), 0)
                out[b, h, i] = weights @ v[b, h, seen]
        return out

    return function


@pytest.mark.parametrize("impl", ["auto", "sdpa", "reference"])
@pytest.mark.parametrize("kind", ["none", "one row of nothing", "interleaved"])
@pytest.mark.parametrize("lengths", LENGTHS[:5], ids=str)
def test_equals_the_formula(lengths: tuple[int, int], kind: str, impl: str):
    ids = padding(kind, lengths[1])
    for scale in (None, 0.3):

        def function(q, k, v, scale=scale):
            return cross_attention(q, k, v, key_segment_ids=ids, scale=scale, impl=impl)

        assert_close_to_float64(function, by_loops(ids, scale), tensors(*lengths), torch.float64)


@pytest.mark.parametrize("impl", ["auto", "sdpa", "reference"])
@pytest.mark.parametrize("lengths", [(1, 5), (7, 1), (12, 10), (17, 33)], ids=str)
def test_packed_rows_read_their_own_segment(lengths: tuple[int, int], impl: str):
    T, S = lengths
    # Ids of one side that the other lacks, unequal lengths, padding on both sides, not in order.
    queries = torch.stack([torch.arange(T) * 5 % 4 - 1, torch.arange(T) // 4])
    keys = torch.stack([torch.arange(S) * 3 % 4 - 1, torch.arange(S) % 4])

    def function(q, k, v):
        return cross_attention(q, k, v, query_segment_ids=queries, key_segment_ids=keys, impl=impl)

    assert_close_to_float64(function, by_loops(keys, query_segment_ids=queries), tensors(T, S), torch.float64)
    alone = cross_attention(*tensors(T, S), query_segment_ids=queries, impl=impl)
    torch.testing.assert_close(alone, cross_attention(*tensors(T, S), impl=impl))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("impl", ["sdpa", "reference"])
def test_low_precision(impl: str, dtype: torch.dtype):
    ids = padding("interleaved", 33)

    def function(q, k, v):
        return cross_attention(q, k, v, key_segment_ids=ids, impl=impl)

    def definition(q, k, v):
        return cross_attention(q, k, v, key_segment_ids=ids, impl="reference")

    assert_close_to_float64(function, definition, tensors(17, 33), dtype)


def test_dropout_drops_pairs_by_their_place_and_keeps_the_mean():
    q, k, v = tensors(40, 50)
    first, again = (cross_attention(q, k, v, dropout_p=0.4, dropout_seed=7) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, cross_attention(q, k, v, dropout_p=0.4, dropout_seed=8))
    # The pairs of the first queries and keys do not depend on how many more there are.
    weights = [
        cross_attention(
            0 * q[:, :, :T], k[:, :, :S], torch.eye(S).double().expand(2, 3, S, S), dropout_p=0.4, dropout_seed=7
        )
        for T, S in ((40, 50), (9, 11))
    ]
    assert torch.equal(weights[0][:, :, :9, :11] > 0, weights[1] > 0)
    assert 0.55 < (weights[0] > 0).double().mean() < 0.65
    torch.testing.assert_close(weights[0][weights[0] > 0].unique(), torch.tensor([1 / 50 / 0.6]).double())


def test_what_padding_holds_is_inert():
    q, k, v = tensors(5, 12)
    ids = padding("interleaved", 12)
    expected = cross_attention(q, k, v, key_segment_ids=ids)
    hole = (ids < 0)[:, None, :, None]
    for fill in (3e4, -1e18):
        found = cross_attention(q, k.masked_fill(hole, fill), v.masked_fill(hole, fill), key_segment_ids=ids)
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_shapes_dtypes_and_options_that_do_not_fit_are_refused():
    q, k, v = (x.float() for x in tensors(5, 6))
    with refuses(ValueError, "k must be [batch, heads, keys, head_dim]", "[2, 3, any, 4]"):
        cross_attention(q, k[..., :3], v)
    with refuses(ValueError, "v must be", "[2, 3, 6, any]"):
        cross_attention(q, k, v[:, :, :5])
    with refuses(ValueError, "at least one element", "k"):
        cross_attention(q, k[:, :, :0], v[:, :, :0])
    with refuses(ValueError, "key_segment_ids must be [batch, keys]", "[2, 6]"):
        cross_attention(q, k, v, key_segment_ids=torch.zeros(2, 5).long())
    with refuses(ValueError, "query_segment_ids must be [batch, queries]", "[2, 5]"):
        cross_attention(q, k, v, query_segment_ids=torch.zeros(2, 6).long())
    with refuses(TypeError, "key_segment_ids must hold integers"):
        cross_attention(q, k, v, key_segment_ids=torch.ones(2, 6).bool())
    with refuses(ValueError, "impl='sdpa'", "dropout"):
        cross_attention(q, k, v, dropout_p=0.1, dropout_seed=0, impl="sdpa")
    with refuses(ValueError, "impl must be one of"):
        cross_attention(q, k, v, impl="eager")
