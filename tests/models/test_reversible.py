"""The reversible backward of a whole model equals plain autograd (invariant 3); its memory has no depth (invariant 4)."""

import pytest
import torch

from reformer.layers import attention as attention_module
from reformer.models import ReformerLM
from reformer.testing import assert_within_budget, exact_normal, saved_tensors

from .factory import assert_same, loss_and_gradients, some_tokens, tiny

NOISY = {"dropout": 0.2, "attention_dropout": 0.3}


def loss_of(model: ReformerLM, seed: int | None = 5):
    tokens = some_tokens()
    return model(tokens, targets=tokens.roll(-1, 1), seed=seed)


def both(**changes) -> tuple[ReformerLM, ReformerLM]:
    return tiny(**changes), tiny(**changes, reversible=False)


@pytest.mark.parametrize("attention", [("local", "lsh"), ("lsh", "full", "lsh"), ("full",)], ids="-".join)
@pytest.mark.parametrize("pattern", ["paper", "bucket", "trax"])
@pytest.mark.parametrize("training", [True, False])
def test_equals_plain_autograd(training: bool, pattern: str, attention: tuple[str, ...]):
    model, plain = (m.train(training) for m in both(attention=attention, pattern=pattern, **NOISY))
    results = loss_and_gradients(model, loss_of)
    assert_same(results, loss_and_gradients(plain, loss_of))
    assert all(value is not None and value.abs().sum() > 0 for value in results.values())


def test_dropout_does_something():
    model = tiny(**NOISY)
    assert loss_of(model, 1).item() != loss_of(model, 2).item()
    assert loss_of(model.train(), 1).item() != loss_of(model.eval(), 1).item()


@pytest.mark.parametrize("changes", [{"causal": False}, {"positions": "rotary"}, {"shared_qk": False}], ids=str)
def test_other_models_equal_plain_autograd(changes: dict):
    model, plain = both(attention=("local", "lsh", "full"), **changes, **NOISY)
    assert_same(loss_and_gradients(model, loss_of), loss_and_gradients(plain, loss_of))


def test_with_padding_and_automatic_buckets():
    model, plain = both(n_buckets=None, **NOISY)
    segments = torch.zeros(2, 20, dtype=torch.int64)
    segments[0, :6] = segments[1, 13:] = -1
    tokens = some_tokens()
    targets = tokens.masked_fill(segments < 0, -100)

    def compute(m: ReformerLM):
        return m(tokens, targets=targets, segment_ids=segments, seed=1)

    assert_same(loss_and_gradients(model, compute), loss_and_gradients(plain, compute))


@pytest.mark.parametrize(
    "frozen", ["embedding", "stack.layers.0", "stack.layers.1", "stack", "head", "attention", "norm"]
)
def test_with_frozen_parameters(frozen: str):
    results = []
    for model in both(**NOISY):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(frozen not in name)
        results.append(loss_and_gradients(model, loss_of))
    assert_same(*results)
    assert any(value is None for value in results[0].values())
    assert all((results[0][name] is None) == (frozen in name) for name, _ in model.named_parameters())


@pytest.mark.parametrize("needs_gradient", [True, False])
def test_with_features_in_place_of_tokens(needs_gradient: bool):
    results = []
    for model in both(**NOISY):
        features = exact_normal(2, 20, 8).requires_grad_(needs_gradient)
        found = loss_and_gradients(model, lambda m, f=features: m(inputs_embeds=f, targets=some_tokens(), seed=3))
        assert (features.grad is not None) == needs_gradient
        results.append({**found, "features": features.grad})
    assert_same(*results)
    missing = {name for name, value in results[0].items() if value is None} - {"features"}
    assert missing == {"embedding.weight"}


def test_with_frozen_embedding_and_positions_every_other_parameter_learns():
    model = tiny(**NOISY)
    model.embedding.requires_grad_(False)
    model.positions.requires_grad_(False)
    loss_of(model).backward()
    for name, parameter in model.named_parameters():
        frozen = name.startswith(("embedding", "positions"))
        assert (parameter.grad is None) == frozen, name
        assert frozen or parameter.grad.abs().sum() > 0, name


def test_autograd_grad():
    results = []
    for model in both(**NOISY):
        names, parameters = zip(*model.named_parameters())
        results.append(dict(zip(names, torch.autograd.grad(loss_of(model), parameters))))
    assert_same(*results)
    some = [p for name, p in model.named_parameters() if "layers.1" in name][:2]
    assert all(g is not None for g in torch.autograd.grad(loss_of(model), some))


def test_two_forwards_before_one_backward():
    def compute(model: ReformerLM):
        first, second = loss_of(model, 1), loss_of(model, 2)
        return first * 0.3 + second

    model, plain = both(**NOISY)
    results = loss_and_gradients(model, compute)
    assert_same(results, loss_and_gradients(plain, compute))
    apart = [loss_and_gradients(model, lambda m, s=seed: loss_of(m, s)) for seed in (1, 2)]
    for name in results:
        torch.testing.assert_close(results[name], apart[0][name] * 0.3 + apart[1][name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("training", [True, False])
def test_switching_the_mode_between_forward_and_backward(training: bool):
    model, plain = (m.train(training) for m in both(**NOISY))

    def compute(m: ReformerLM):
        loss = loss_of(m.train(training))
        m.train(not training)
        return loss

    assert_same(loss_and_gradients(model, compute), loss_and_gradients(plain, compute))


def test_random_numbers_drawn_between_forward_and_backward():
    results = []
    for disturbed in (True, False):
        model = tiny(**NOISY)
        torch.manual_seed(8)
        loss = loss_of(model, None)
        if disturbed:
            torch.manual_seed(0)
            loss_of(model, None)
        loss.backward()
        results.append({name: p.grad for name, p in model.named_parameters()})
    assert_same(*results, rtol=0, atol=0)


def test_the_same_graph_twice():
    results = []
    for model in both(**NOISY):
        loss = loss_of(model)
        loss.backward(retain_graph=True)
        first = {name: p.grad.clone() for name, p in model.named_parameters()}
        loss.backward()
        results.append({name: p.grad for name, p in model.named_parameters()})
        for name, gradient in first.items():
            torch.testing.assert_close(results[-1][name], 2 * gradient, rtol=1e-12, atol=1e-14)
    assert_same(*results)


def test_a_graph_freed_cannot_be_used_twice():
    loss = loss_of(tiny())
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_hooks_see_each_gradient_once_and_whole():
    seen: dict[str, list] = {}
    model, plain = both(**NOISY)
    for name, parameter in model.named_parameters():
        parameter.register_hook(lambda g, name=name: seen.setdefault(name, []).append(g.clone()))
    accumulated = []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(accumulated.append)
    loss_of(model).backward()
    expected = loss_and_gradients(plain, loss_of)
    del expected["loss"]
    assert all(len(gradients) == 1 for gradients in seen.values())
    assert len(accumulated) == len(expected)
    assert_same({name: seen[name][0] for name in expected}, expected)


def test_buckets_are_reused_in_the_backward(monkeypatch: pytest.MonkeyPatch):
    calls = []
    hash_once = attention_module.seeded_buckets
    monkeypatch.setattr(attention_module, "seeded_buckets", lambda *a, **k: calls.append(1) or hash_once(*a, **k))
    loss = loss_of(tiny(attention=("lsh", "lsh", "local")))
    assert len(calls) == 2
    loss.backward()
    assert len(calls) == 2


@pytest.mark.parametrize("training", [True, False])
def test_under_autocast(training: bool):
    """Gradients in bfloat16 are as near to the exact ones as those of the model without reversible layers."""
    # Local and full layers: with LSH a rounding may move a vector to another bucket, which is no error of the backward.
    changes = {"attention": ("local", "full", "local"), "dropout": 0.2, "attention_dropout": 0.2}
    model, plain = (m.float().train(training) for m in both(**changes))

    def compute(m: ReformerLM):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(m)
        return loss  # the backward runs outside autocast

    exact = loss_and_gradients(tiny(**changes).train(training), loss_of)
    found, low = loss_and_gradients(model, compute), loss_and_gradients(plain, compute)
    assert found["loss"] == low["loss"]
    for name, value in exact.items():
        assert found[name].dtype == torch.float32
        assert_within_budget(name, found[name], low[name].to(torch.bfloat16), value)
        # Rebuilding streams rounds in float32, far below the bfloat16 of the products.
        difference = (found[name] - low[name]).norm() / low[name].norm()
        assert difference <= 2 * (low[name] - value).norm() / value.norm(), name


def test_lsh_under_autocast_with_the_same_buckets():
    model, plain = (m.float() for m in both(**NOISY))

    def compute(m: ReformerLM):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss_of(m)

    found, low = loss_and_gradients(model, compute), loss_and_gradients(plain, compute)
    # The forward passes are the same operations, so the buckets are too.
    assert found["loss"] == low["loss"]
    for name, value in low.items():
        # bfloat16 has 8 bits: a product recomputed from a rebuilt stream may round the other way.
        assert (found[name] - value).norm() <= 2**-8 * value.norm(), name


def test_autocast_in_backward_only_changes_nothing_in_reversible_layers():
    # The head is a Linear like any other: what autocast does to its backward pass is torch's affair.
    results = []
    for inside in (True, False):
        model = tiny(**NOISY).float()
        loss = model.hidden(some_tokens(), seed=3).square().sum()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            loss.backward()
        results.append({name: p.grad for name, p in model.named_parameters()})
    assert any(gradient is not None for gradient in results[0].values())
    assert_same(*results, rtol=0, atol=0)


def test_activation_memory_does_not_grow_with_depth():
    def kept(depth: int, reversible: bool) -> int:
        model = tiny(attention=("local", "lsh") * (depth // 2), reversible=reversible, **NOISY)
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        with saved_tensors() as kept:
            loss_of(model)
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept if t.is_floating_point()}
        return sum(size for pointer, size in storages.items() if pointer not in own)

    assert kept(2, True) == kept(8, True) > 0
    assert kept(8, False) > 2.5 * kept(2, False)
