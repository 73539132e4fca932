import pytest
import torch
from torch import nn

from reformer.layers import (
    FullSelfAttention,
    LocalSelfAttention,
    LSHSelfAttention,
    ParallelPass,
    SelfAttention,
    rotate,
)
from reformer.layers import attention as attention_module
from reformer.layers.attention import split_width
from reformer.ops import full_attention, local_attention, lsh_attention, seeded_buckets
from reformer.testing import exact_normal

from .helpers import refuses

D_MODEL, HEADS = 12, 3


def layer(kind: str, **options) -> SelfAttention:
    torch.manual_seed(0)
    if kind == "lsh":
        options = {"chunk_len": 8, "n_hashes": 2, "n_buckets": 4, **options}
        made: SelfAttention = LSHSelfAttention(D_MODEL, HEADS, **options)
    elif kind == "local":
        made = LocalSelfAttention(D_MODEL, HEADS, **{"chunk_len": 8, **options})
    else:
        made = FullSelfAttention(D_MODEL, HEADS, **options)
    return made.double()


KINDS = ("lsh", "local", "full")


def heads(x: torch.Tensor, linear: nn.Linear, n_heads: int = HEADS) -> torch.Tensor:
    B, L, _ = x.shape
    return (x @ linear.weight.t()).view(B, L, n_heads, -1).permute(0, 2, 1, 3)


def test_all_kinds_have_the_same_parameters():
    expected = {"to_q.weight": (12, 12), "to_v.weight": (12, 12), "to_out.weight": (12, 12)}
    for kind in KINDS:
        assert {name: tuple(p.shape) for name, p in layer(kind).state_dict().items()} == expected
    layer("full").load_state_dict(layer("lsh").state_dict())
    separate = layer("local", shared_qk=False).state_dict()
    assert set(separate) == {*expected, "to_k.weight"}


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rotary", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_is_its_op_between_projections(kind: str, shared: bool, rotary: bool, causal: bool):
    if kind == "lsh" and not shared:
        with pytest.raises(TypeError):
            layer(kind, shared_qk=False)
        return
    scale = {"scale": 0.5} if kind == "lsh" else {}
    attention = layer(kind, causal=causal, rotary=rotary, **({} if kind == "lsh" else {"shared_qk": shared}), **scale)
    x = exact_normal(2, 21, D_MODEL)
    segments = torch.zeros(2, 21, dtype=torch.int64)
    segments[1, :5] = -1
    q, v = heads(x, attention.to_q), heads(x, attention.to_v)
    k = None if shared else heads(x, attention.to_k)
    if rotary:
        q, k = rotate(q), None if k is None else rotate(k)
    if kind == "lsh":
        seed = attention_module.derive_seed(torch.tensor(7), 0)
        buckets = seeded_buckets(q, seed, n_hashes=2, n_buckets=4, chunk_len=8, segment_ids=segments)
        after = 0 if causal else 1
        out = lsh_attention(
            q, v, buckets, chunk_len=8, causal=causal, n_chunks_after=after, segment_ids=segments, scale=0.5
        )
    elif kind == "local":
        after = 0 if causal else 1
        out = local_attention(q, k, v, causal=causal, chunk_len=8, n_chunks_after=after, segment_ids=segments)
    else:
        out = full_attention(q, k, v, causal=causal, segment_ids=segments)
    expected = out.permute(0, 2, 1, 3).reshape(2, 21, D_MODEL) @ attention.to_out.weight.t()
    torch.testing.assert_close(attention(x, seed=7, segment_ids=segments), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("length", [1, 2, 7, 63, 65])
@pytest.mark.parametrize("kind", KINDS)
def test_any_length_automatic_buckets(kind: str, length: int):
    options = {"n_buckets": None, "chunk_len": 64} if kind == "lsh" else {}
    attention = layer(kind, **options)
    x = exact_normal(2, length, D_MODEL).requires_grad_()
    out = attention(x)
    assert out.shape == x.shape and out.isfinite().all()
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_repeats_and_training_follows_the_global_seed(kind: str):
    attention = layer(kind, dropout=0.3)
    x = exact_normal(1, 40, D_MODEL)
    attention.eval()
    state = torch.get_rng_state()
    assert torch.equal(attention(x), attention(x))
    assert torch.equal(attention(x), attention(x, seed=0))
    assert torch.equal(torch.get_rng_state(), state)
    attention.train()
    torch.manual_seed(3)
    first, second = attention(x), attention(x)
    torch.manual_seed(3)
    assert torch.equal(attention(x), first)
    assert not torch.equal(first, second)
    assert torch.equal(attention(x, seed=5), attention(x, seed=torch.tensor(5)))
    assert not torch.equal(attention(x, seed=5), attention(x, seed=6))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_that_of_the_op_under_a_seed_of_its_own(kind: str):
    attention, x = layer(kind, dropout=0.4), exact_normal(2, 21, D_MODEL)
    q, v = heads(x, attention.to_q), heads(x, attention.to_v)

    def op(**dropout) -> torch.Tensor:
        if kind == "lsh":
            rotations = attention_module.derive_seed(torch.tensor(7), 0)
            buckets = seeded_buckets(q, rotations, n_hashes=2, n_buckets=4, chunk_len=8)
            out = lsh_attention(q, v, buckets, chunk_len=8, scale=1.0, **dropout)
        elif kind == "local":
            out = local_attention(q, None, v, chunk_len=8, **dropout)
        else:
            out = full_attention(q, None, v, **dropout)
        return out.permute(0, 2, 1, 3).reshape(2, 21, D_MODEL) @ attention.to_out.weight.t()

    expected = op(dropout_p=0.4, dropout_seed=attention_module.derive_seed(torch.tensor(7), 1))
    torch.testing.assert_close(attention(x, seed=7), expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(attention.eval()(x, seed=7), op(), rtol=1e-12, atol=1e-13)


def test_rotations_change_with_the_seed_but_not_by_the_mode():
    attention = layer("lsh")
    x = exact_normal(1, 40, D_MODEL)
    a, b = attention(x, seed=1), attention(x, seed=2)
    assert not torch.allclose(a, b)
    assert torch.equal(attention.eval()(x, seed=1), a)


def test_replay_reuses_buckets_and_order(monkeypatch: pytest.MonkeyPatch):
    attention = layer("lsh")
    x = exact_normal(1, 40, D_MODEL)
    first = ParallelPass(seed=torch.tensor(1))
    out = attention(x, first)
    saved = list(first.saved)
    assert len(saved) == 2 and not any(s.is_floating_point() for s in saved)
    for name in ("seeded_buckets", "sort_by_bucket"):
        monkeypatch.setattr(attention_module, name, lambda *a, **k: pytest.fail("computed again"))
    again = ParallelPass(seed=torch.tensor(1), saved=saved)
    assert torch.equal(attention(x, again), out)
    assert all(a is b for a, b in zip(first.saved, again.saved, strict=True))
    # And what is saved decides: with other buckets the result is another.
    other = [torch.arange(40).expand_as(saved[0]).contiguous() for _ in saved]
    assert not torch.allclose(attention(x, ParallelPass(seed=torch.tensor(1), saved=other)), out)


def test_bidirectional_layers_see_both_sides_and_causal_ones_do_not():
    for kind in KINDS:
        for causal in (True, False):
            attention = layer(kind, causal=causal, **({"n_hashes": 8, "n_buckets": 2} if kind == "lsh" else {}))
            x = exact_normal(1, 16, D_MODEL).requires_grad_()
            (gradient,) = torch.autograd.grad(attention(x, seed=0)[0, 8].sum(), x)
            seen = gradient[0].abs().sum(-1) > 1e-9
            assert seen[:8].any()
            assert bool(seen[9:].any()) != causal


def test_positions_reach_rotary_layers():
    attention = layer("full", rotary=True)
    x = exact_normal(1, 9, D_MODEL)
    default = attention(x)
    torch.testing.assert_close(attention(x, position_ids=torch.arange(9)[None]), default)
    assert not torch.allclose(attention(x, position_ids=torch.arange(9)[None] * 3), default)


def test_split_width():
    assert split_width(12, 3, None, None) == (4, 12)
    assert split_width(12, 3, 5, 15) == (5, 15)
    assert split_width(12, 2, None, 6) == (3, 6)
    with refuses(ValueError, "12 is not a multiple of n_heads=5", "the nearest width is 10"):
        split_width(12, 5, None, None)
    with refuses(ValueError, "got 3 × 5 = 15", "head_dim=4 or d_attn=15"):
        split_width(12, 3, 5, None)


@pytest.mark.parametrize(
    ("make", "error", "facts"),
    [
        (lambda: LSHSelfAttention(12, 3, n_buckets=7), ValueError, ("n_buckets must be even",)),
        (lambda: LocalSelfAttention(12, 3), ValueError, ("exactly one of chunk_len and window",)),
        (lambda: LocalSelfAttention(12, 3, chunk_len=4, window=2), ValueError, ("exactly one",)),
        (lambda: FullSelfAttention(9, 3, rotary=True), ValueError, ("even head_dim, got 3",)),
        (lambda: FullSelfAttention(12, 5), ValueError, ("not a multiple",)),
        (lambda: SelfAttention(12, 3)(torch.zeros(1, 2, 12)), TypeError, ("SelfAttention names no attention",)),
    ],
)
def test_what_makes_no_layer_is_refused(make, error, facts):
    with refuses(error, *facts):
        make()


@torch.no_grad()
def test_under_autocast_the_output_is_near():
    x = exact_normal(2, 40, D_MODEL, dtype=torch.float32)
    for kind in KINDS:
        attention = layer(kind).float()
        first = ParallelPass(seed=torch.tensor(1))
        attention.eval()(x, first)
        exact = attention.double()(x.double(), first)
        low = attention.bfloat16()(x.bfloat16(), first)
        attention.load_state_dict(layer(kind).state_dict())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = attention.float()(x, first)
        assert got.dtype == torch.bfloat16
        error, allowed = (float((y.double() - exact).square().mean().sqrt()) for y in (got, low))
        assert 0 < error <= 2 * allowed
