import pytest
import torch
from torch import nn

from reformer.layers import FeedForward, LocalSelfAttention, LSHSelfAttention, ReversibleStack
from reformer.layers import attention as attention_module
from reformer.testing import exact_normal, saved_tensors

D_MODEL = 8


def stack(depth: int = 2, *, reversible: bool = True, dropout: float = 0.0, attention_dropout: float = 0.0):
    torch.manual_seed(0)
    kinds = [
        LSHSelfAttention(D_MODEL, 2, n_hashes=2, n_buckets=4, chunk_len=8, dropout=attention_dropout)
        if n % 2
        else LocalSelfAttention(D_MODEL, 2, chunk_len=8, dropout=attention_dropout)
        for n in range(depth)
    ]
    layers = [(kind, FeedForward(D_MODEL, 16, chunk_len=7, dropout=dropout)) for kind in kinds]
    made = ReversibleStack(D_MODEL, layers, dropout=dropout, reversible=reversible).double()
    for p in made.parameters():
        if p.dim() == 1:
            nn.init.normal_(p, mean=0.5, std=0.3)
    return made


def streams():
    return [exact_normal(2, 20, D_MODEL, seed=n).requires_grad_() for n in range(2)]


def test_is_two_coupled_residual_streams():
    made = stack(1).eval()
    (layer,) = made.layers
    x1, x2 = streams()
    y1 = x1 + layer.attention.inner(layer.attention.norm(x2))
    y2 = x2 + layer.feed_forward.inner(layer.feed_forward.norm(y1))
    for found, expected in zip(made(x1, x2), (y1, y2)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_plain_autograd(training: bool):
    results = []
    for reversible in (True, False):
        made = stack(4, reversible=reversible, dropout=0.2, attention_dropout=0.3).train(training)
        x1, x2 = streams()
        y1, y2 = made(x1, x2, seed=11)
        wanted = [x1, x2, *made.parameters()]
        results.append([y1, y2, *torch.autograd.grad((y1 * 0.7).sum() + y2.square().sum(), wanted)])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_one_stream_is_an_ordinary_transformer():
    made = stack(2, reversible=False).eval()
    ordinary = ReversibleStack(
        D_MODEL,
        [(layer.attention.inner, layer.feed_forward.inner) for layer in made.layers],
        reversible=False,
        streams=1,
    ).double()
    ordinary.load_state_dict(made.state_dict())
    _, x = streams()
    expected = x
    for layer, (attention_seed, _, _) in zip(ordinary.layers, ordinary.seeds(torch.tensor(3))):
        branch = layer.attention
        seed = branch.inner_seed(attention_seed)
        expected = expected + branch.inner(branch.norm(expected), seed=seed)
        expected = expected + layer.feed_forward.inner(layer.feed_forward.norm(expected))
    for found in ordinary.eval()(x, x, seed=3):
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(made(x, x, seed=3)[1], expected)


@pytest.mark.parametrize(("n", "reversible"), [(1, True), (0, False), (3, False)])
def test_a_number_of_streams_that_cannot_be_is_refused(n: int, reversible: bool):
    with pytest.raises(ValueError, match="streams"):
        ReversibleStack(D_MODEL, [], reversible=reversible, streams=n)


def test_buckets_are_not_computed_again_in_the_backward(monkeypatch: pytest.MonkeyPatch):
    calls = []
    hash_once = attention_module.seeded_buckets
    monkeypatch.setattr(attention_module, "seeded_buckets", lambda *a, **k: calls.append(1) or hash_once(*a, **k))
    made = stack(4)
    y1, y2 = made(*streams(), seed=1)
    assert len(calls) == 2
    (y1.sum() + y2.sum()).backward()
    assert len(calls) == 2


def test_layers_draw_different_masks_and_rotations():
    seeds = []
    made = stack(4, dropout=0.5, attention_dropout=0.1)
    for layer in made.layers:
        for branch in (layer.attention, layer.feed_forward):
            branch.register_forward_pre_hook(lambda module, args: seeds.append(int(args[1].seed)))
    made(*streams(), seed=3)
    assert len(seeds) == 8 == len(set(seeds))


def test_activations_kept_do_not_grow_with_depth():
    def kept(depth: int, reversible: bool) -> int:
        made = stack(depth, reversible=reversible)
        own = {p.untyped_storage().data_ptr() for p in made.parameters()}
        with saved_tensors() as kept:
            made(*streams(), seed=0)
        floats = [t for t in kept if t.is_floating_point() and t.untyped_storage().data_ptr() not in own]
        return sum(t.untyped_storage().nbytes() for t in floats)

    assert kept(2, True) == kept(8, True) > 0
    assert kept(8, False) > 3.5 * kept(2, False)
    # Integers, on the other hand: buckets and their order for every LSH layer, and nothing else.
    made = stack(8)
    with saved_tensors() as everything:
        made(*streams(), seed=0)
    integers = [t for t in everything if not t.is_floating_point()]
    assert [tuple(t.shape) for t in integers] == [(2, 2, 2, 20)] * 8  # 4 layers × (buckets, order)


def test_mode_of_the_forward_pass_is_that_of_the_backward():
    results = []
    for switch in (True, False):
        made = stack(2, dropout=0.3, attention_dropout=0.2).train()
        x1, x2 = streams()
        y1, y2 = made(x1, x2, seed=2)
        if switch:
            made.eval()
        results.append(torch.autograd.grad(y1.sum() + y2.square().sum(), [x1, x2, *made.parameters()]))
        # And the mode of now is left as it is.
        assert all(module.training != switch for module in made.modules())
    for one, other in zip(*results):
        assert torch.equal(one, other)
