"""The drop-in layer against reformer-pytorch itself, and against what it must not do."""

from contextlib import contextmanager

import pytest
import torch
from reformer_pytorch import LSHSelfAttention as TheirLayer
from tests.layers.helpers import refuses

from reformer.compat import LSHSelfAttention
from reformer.compat import lsh_self_attention as compat
from reformer.ops import lsh_attention

DIM = 24


def ours(**options):
    torch.manual_seed(0)
    return LSHSelfAttention(DIM, **{"heads": 4, "bucket_size": 4, "n_hashes": 2, **options})


def both(**options):
    """Their layer and ours with its weights; only D^-0.5 must be moved into them. Both in evaluation mode.

    In float64: a token that sees only itself twice over is off by 2e-3 there in float32, for log 2 is lost beside -5e4.
    """
    torch.manual_seed(0)
    options = {"heads": 4, "bucket_size": 4, "n_hashes": 2, **options}
    theirs, mine = (layer(DIM, **options).double().eval() for layer in (TheirLayer, LSHSelfAttention))
    mine.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        mine.toqk.weight *= mine.dim_head**-0.5
    return theirs, mine


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@contextmanager
def buckets_of(theirs, monkeypatch):
    """Within it our layer takes the buckets that theirs has just used."""
    seen = []
    theirs.callback = lambda _, buckets: seen.append(buckets)

    def taken(rows, seed, *, n_hashes, **_):
        return seen[-1].reshape(rows.shape[0], rows.shape[1], n_hashes, -1)

    monkeypatch.setattr(compat, "seeded_buckets", taken)
    yield


OPTIONS = [
    {},
    {"causal": True},
    {"attend_across_buckets": False, "allow_duplicate_attention": False},
    {"attend_across_buckets": False, "allow_duplicate_attention": False, "causal": True, "n_hashes": 3},
    {"n_hashes": 1, "causal": True},
    {"one_value_head": True},
    {"dim_head": 10},
    {"n_local_attn_heads": 2},
    {"n_local_attn_heads": 3, "causal": True},
    {"random_rotations_per_head": True},
    {"use_full_attn": True, "causal": True},
    {"full_attn_thres": 48},
    {"full_attn_thres": 47},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_computes_what_reformer_pytorch_does_with_the_same_weights_and_buckets(options, monkeypatch):
    theirs, mine = both(**options)
    x = normal(2, 48, DIM)
    with buckets_of(theirs, monkeypatch):
        expected = theirs(x)
        # They add 1e-9 to the number of rounds that saw a pair.
        torch.testing.assert_close(mine(x), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("causal", [False, True])
def test_rotary_positions_are_applied_after_hashing(causal, monkeypatch):
    theirs, mine = both(causal=causal)
    x, angles = normal(2, 48, DIM), normal(1, 48, 3)
    pos_emb = torch.cat([angles.sin(), angles.cos()], dim=-1)
    with buckets_of(theirs, monkeypatch):
        expected = theirs(x, pos_emb=pos_emb)
        torch.testing.assert_close(mine(x, pos_emb=pos_emb), expected, rtol=1e-9, atol=1e-9)
        assert (mine(x) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("context", [0, 7])
def test_memory_and_context_are_seen_by_every_token(causal, context, monkeypatch):
    # One bucket in two chunks, both of which every token sees: where the two libraries put the others plays no part.
    theirs, mine = both(bucket_size=16, n_hashes=1, causal=causal, num_mem_kv=5)
    x, keys = normal(2, 27 - context, DIM), normal(2, context, DIM) if context else None
    monkeypatch.setattr(
        type(theirs.lsh_attn), "hash_vectors", lambda self, n, qk, **_: torch.zeros(qk.shape[:2]).long()
    )
    monkeypatch.setattr(compat, "seeded_buckets", lambda rows, *_, **__: torch.zeros(8, 1, 1, 32).long())
    torch.testing.assert_close(mine(x, keys), theirs(x, keys), rtol=1e-9, atol=1e-9)


def test_masks_in_full_attention_equal_theirs_at_real_tokens():
    theirs, mine = both(use_full_attn=True, num_mem_kv=2)
    x, keys = normal(2, 9, DIM), normal(2, 6, DIM)
    mask, context_mask = torch.ones(2, 9).bool(), torch.ones(2, 6).bool()
    mask[1, 5:] = False
    context_mask[0, :2] = False
    given = {"keys": keys, "input_mask": mask, "context_mask": context_mask}
    torch.testing.assert_close(mine(x, **given)[mask], theirs(x, **given)[mask], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 3, 5, 63, 100])
@pytest.mark.parametrize("exact", [False, True])
def test_any_length_equals_the_definition(length, exact, causal, monkeypatch):
    layer = ours(causal=causal, attend_across_buckets=exact, allow_duplicate_attention=exact, full_attn_thres=0).eval()
    used = []
    real = compat.seeded_buckets
    monkeypatch.setattr(compat, "seeded_buckets", lambda *a, **k: used.append(real(*a, **k)) or used[-1])
    x = torch.randn(2, length, DIM)
    out = layer(x)
    qk, v = (m(x).unflatten(-1, (4, 6)).transpose(1, 2) for m in (layer.toqk, layer.tov))
    heads = lsh_attention(
        qk,
        v,
        used[0].view(2, 4, 2, length),
        chunk_len=4,
        pattern="trax" if exact else "paper",
        causal=causal,
        impl="reference",
    )
    torch.testing.assert_close(out, layer.to_out(heads.transpose(1, 2).flatten(2)), rtol=1e-5, atol=1e-5)


def test_all_heads_share_their_rotations_unless_each_has_its_own(monkeypatch):
    used = []
    real = compat.seeded_buckets
    monkeypatch.setattr(compat, "seeded_buckets", lambda *a, **k: used.append(real(*a, **k)) or used[-1])
    for per_head in (False, True):
        layer = ours(random_rotations_per_head=per_head).eval()
        with torch.no_grad():
            layer.toqk.weight.copy_(torch.randn(6, DIM).repeat(4, 1))
        layer(torch.randn(1, 64, DIM))
        by_head = used[-1].view(4, 2, 64)
        assert (by_head[0] == by_head[1]).all().item() is not per_head


@pytest.mark.parametrize("options", [o for o in OPTIONS if "use_full_attn" not in o] + [{"num_mem_kv": 3}], ids=str)
@pytest.mark.parametrize("side", ["left", "right", "holes"])
def test_padding_is_inert(options, side):
    layer = ours(**options).double().eval()
    lengths, total = (5, 21, 40), 57
    x = torch.randn(3, total, DIM, dtype=torch.float64, requires_grad=True)
    mask = torch.zeros(3, total, dtype=torch.bool)
    for row, length in enumerate(lengths):
        places = {
            "left": torch.arange(total - length, total),
            "right": torch.arange(length),
            "holes": torch.randperm(total, generator=torch.Generator().manual_seed(row))[:length],
        }[side]
        mask[row, places] = True
    out = layer(x, input_mask=mask)
    for row in range(3):
        alone = layer(x[row][mask[row]][None])
        torch.testing.assert_close(out[row][mask[row]], alone[0], rtol=1e-9, atol=1e-9)
    out[mask].square().sum().backward()
    assert (x.grad[~mask] == 0).all() and (x.grad[mask].abs().amax(-1) > 0).all()


def test_a_row_of_nothing_but_padding_gives_the_output_bias():
    layer = ours().eval()
    out = layer(torch.randn(2, 30, DIM), input_mask=torch.tensor([[True], [False]]).expand(2, 30))
    torch.testing.assert_close(out[1], layer.to_out.bias.expand(30, DIM))


def test_padding_of_the_context_is_inert():
    layer = ours(num_mem_kv=2, causal=True).eval()
    x, keys = torch.randn(1, 33, DIM), torch.randn(1, 20, DIM)
    mask = torch.arange(20)[None] >= 8
    torch.testing.assert_close(layer(x, keys, context_mask=mask), layer(x, keys[:, 8:]), rtol=1e-5, atol=1e-5)
    assert (layer(x, keys) - layer(x, keys[:, 8:])).abs().max() > 1e-3


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", [{}, {"n_local_attn_heads": 2}], ids=str)
def test_gradients_under_dropout_are_those_of_the_same_draws(padded, options):
    layer = ours(dropout=0.3, post_attn_dropout=0.2, num_mem_kv=2, **options).double().train()
    x = torch.randn(2, 37, DIM, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 37, DIM, dtype=torch.float64)
    mask = torch.arange(37) < torch.tensor([[37], [20]]) if padded else None
    leaves = [x, *layer.parameters()]
    steps = [torch.randn_like(leaf) for leaf in leaves]

    def loss():
        torch.manual_seed(5)
        return (layer(x, input_mask=mask) * weight).sum()

    grads = torch.autograd.grad(loss(), leaves)
    slope = sum((g * s).sum() for g, s in zip(grads, steps)).item()

    @torch.no_grad()
    def at(distance):
        for leaf, step in zip(leaves, steps):
            leaf += distance * step
        value = loss().item()
        for leaf, step in zip(leaves, steps):
            leaf -= distance * step
        return value

    h = 1e-7
    assert (at(h) - at(-h)) / (2 * h) == pytest.approx(slope, rel=1e-5)
    assert not torch.equal(layer(x), layer(x))


def test_rotations_are_fresh_in_training_and_fixed_in_evaluation():
    layer = ours(n_hashes=1)
    x = torch.randn(1, 64, DIM)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    again = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), again)
    layer.eval()
    before = torch.get_rng_state()
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("options", [{}, {"num_mem_kv": 3}, {"one_value_head": True, "dim_head": 5}], ids=str)
def test_a_state_dict_of_reformer_pytorch_loads(options):
    theirs = TheirLayer(DIM, heads=4, **options)
    layer = ours(**options)
    layer.load_state_dict(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(layer.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("options", "error", "facts"),
    [
        ({"attend_across_buckets": False}, ValueError, ("both True", "allow_duplicate_attention=True")),
        ({"allow_duplicate_attention": False}, ValueError, ("both False", "attend_across_buckets=True")),
        ({"attn_chunks": 4}, ValueError, ("attn_chunks must be 1, got 4", "leave it out")),
        ({"return_attn": True}, ValueError, ("return_attn", "reformer.ops.lsh_attention")),
        ({"rehash_each_round": False}, ValueError, ("rehash_each_round must be True",)),
        ({"drop_for_hash_rate": 0.1}, ValueError, ("drop_for_hash_rate must be 0.0, got 0.1",)),
        ({"bucket": 4}, TypeError, ("no option 'bucket'",)),
        ({"heads": 5}, ValueError, ("24", "5")),
        ({"n_local_attn_heads": 4}, ValueError, ("below heads=4", "got 4")),
        ({"dropout": 1.0}, ValueError, ("[0, 1)", "1.0")),
        ({"bucket_size": 0}, ValueError, ("bucket_size must be at least 1",)),
    ],
    ids=str,
)
def test_what_is_not_computed_here_is_refused(options, error, facts):
    with refuses(error, *facts):
        ours(**options)


@pytest.mark.parametrize(
    ("arguments", "error", "facts"),
    [
        ({"input_attn_mask": torch.ones(1, 8, 8).bool()}, ValueError, ("input_attn_mask", "input_mask")),
        ({"_reverse": True}, TypeError, ("_reverse", "ReversibleStack")),
        ({"mask": None}, TypeError, ("no argument 'mask'",)),
        ({"input_mask": torch.ones(1, 7).bool()}, ValueError, ("input_mask", "[1, 8]", "[1, 7]")),
        ({"input_mask": torch.ones(1, 8)}, TypeError, ("input_mask must be bool", "float32")),
        ({"context_mask": torch.ones(1, 8).bool()}, ValueError, ("belongs to keys",)),
        ({"keys": torch.ones(1, 8, 5)}, ValueError, ("keys", "[1, 8, 5]")),
        ({"pos_emb": torch.ones(1, 9, 6)}, ValueError, ("pos_emb", "[1, 8, 6]")),
    ],
)
def test_bad_calls_are_refused(arguments, error, facts):
    with refuses(error, *facts):
        ours()(torch.randn(1, 8, DIM), **arguments)


def test_bad_inputs_are_refused():
    with refuses(ValueError, "dim", "[2, 24]"):
        ours()(torch.randn(2, DIM))
    with refuses(ValueError, "at least one"):
        ours()(torch.randn(2, 0, DIM))
