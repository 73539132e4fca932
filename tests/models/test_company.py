"""Other people's tools on our modules: hooks, parametrisations, adapters, quantisation, offloading, functional calls.

What a tool changes must change the function, in the forward pass, in the recomputation and in decoding: values and gradients
are those of the same model with ``reversible=False``, or of merged weights.
"""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from reformer.layers import ReversibleLayer
from reformer.models import ReformerLM

from .factory import assert_same, loss_and_gradients, some_tokens, tiny

OPTIONS = {"attention": ("local", "lsh", "full"), "ff_chunk_len": 7}


def pair(**changes) -> tuple[ReformerLM, ReformerLM]:
    """The same model, reversible and with ordinary autograd."""
    return tiny(**OPTIONS | changes), tiny(reversible=False, **OPTIONS | changes)


def loss_of(model: nn.Module) -> Tensor:
    tokens = some_tokens()
    return model(tokens, targets=tokens.roll(-1, 1), seed=3)


def linears(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def parts(model: ReformerLM) -> dict[str, nn.Module]:
    """A module of every kind in a stack."""
    return {name: m for name, m in model.stack.named_modules() if name.startswith("layers.1") or not name}


PARTS = sorted(parts(tiny(**OPTIONS)))


@pytest.mark.parametrize("name", PARTS)
def test_forward_hooks_that_change_what_a_module_returns(name: str):
    def scaled(module, args, out):
        return tuple(y * 1.1 for y in out) if isinstance(out, tuple) else out * 1.1

    results = []
    for model in pair(dropout=0.2, attention_dropout=0.2):
        parts(model)[name].register_forward_hook(scaled)
        results.append(loss_and_gradients(model, loss_of))
    assert_same(*results)
    assert results[0]["loss"] != loss_of(tiny(dropout=0.2, attention_dropout=0.2, **OPTIONS))


@pytest.mark.parametrize("stream", [0, 1])
def test_forward_hooks_that_change_one_stream(stream: int):
    results = []
    for model in pair():
        model.stack.layers[1].register_forward_hook(
            lambda module, args, out: tuple(y * 1.1 if n == stream else y for n, y in enumerate(out))
        )
        results.append(loss_and_gradients(model, loss_of))
    assert_same(*results)
    assert results[0]["loss"] != loss_of(tiny(**OPTIONS))


@pytest.mark.parametrize("name", PARTS)
def test_forward_pre_hooks_that_change_what_a_module_reads(name: str):
    def scaled(module, args):
        return tuple(x * 1.1 if isinstance(x, Tensor) and x.is_floating_point() else x for x in args)

    results = []
    for model in pair():
        parts(model)[name].register_forward_pre_hook(scaled)
        results.append(loss_and_gradients(model, loss_of))
    assert_same(*results)
    # LayerNorm does not see a scale; whatever else does.
    assert name.endswith(("norm", "attention", "feed_forward")) or results[0]["loss"] != loss_of(tiny(**OPTIONS))


@pytest.mark.parametrize("name", PARTS)
def test_full_backward_hooks_see_the_gradients_of_plain_autograd(name: str):
    results = []
    for model in pair():
        seen: list[tuple] = []
        module = parts(model)[name]
        module.register_full_backward_hook(lambda m, inputs, outputs, seen=seen: seen.append((inputs, outputs)))
        gradients = loss_and_gradients(model, loss_of)
        flat = [g for both in seen for side in both for g in side if g is not None]
        assert flat
        results.append({**gradients, **{str(n): g for n, g in enumerate(flat)}})
    assert_same(*results)


def test_full_backward_hooks_that_change_a_gradient():
    results = []
    for model in pair():
        for module in (
            model.stack.layers[1],
            model.stack.layers[1].attention,
            model.stack.layers[0].feed_forward.inner,
        ):
            module.register_full_backward_hook(
                lambda m, inputs, _: tuple(None if g is None else g * 0.5 for g in inputs)
            )
        results.append(loss_and_gradients(model, loss_of))
    assert_same(*results)
    gradients = loss_and_gradients(tiny(**OPTIONS), loss_of)
    assert not torch.allclose(gradients["embedding.weight"], results[0]["embedding.weight"])


def test_a_hook_that_changes_a_stream_in_place_is_refused():
    model = tiny(**OPTIONS)
    model.stack.layers[0].register_forward_hook(lambda module, args, out: (out[0].mul_(2), None)[1])
    with pytest.raises(RuntimeError, match="in place"):
        loss_of(model)


def test_hooks_run_in_decoding():
    model = tiny(**OPTIONS).eval()
    called = set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, args, out, name=name: called.add(name))
    state = model.decoding_state(2)
    for tokens in (some_tokens(), some_tokens(length=1)):
        called.clear()
        model.decode(tokens, state)
        missing = {name for name, _ in model.named_modules()} - called - {"", "stack.layers"}
        assert not missing, missing


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_parametrisations():
    results = []
    for model in pair():
        for linear in linears(model):
            parametrize.register_parametrization(linear, "weight", Doubled())
        results.append(loss_and_gradients(model, loss_of))
    assert_same(*results)
    merged = tiny(**OPTIONS)
    with torch.no_grad():
        for linear in linears(merged):
            linear.weight.mul_(2)
    assert torch.equal(results[0]["loss"], loss_of(merged))


def test_weight_norm():
    results = []
    for model in pair():
        for linear in linears(model):
            weight_norm(linear)
        results.append(loss_and_gradients(model, loss_of))
    assert_same(*results)
    torch.testing.assert_close(results[0]["loss"], loss_of(tiny(**OPTIONS)).detach())


def test_pruning_masks_hold():
    results = []
    for model in pair():
        for linear in linears(model):
            prune.l1_unstructured(linear, "weight", amount=0.5)
        results.append(loss_and_gradients(model, loss_of))
    assert_same(*results)
    masked = linears(model)[0].weight_mask == 0
    assert masked.any() and all(g is None or not g.isnan().any() for g in results[0].values())
    name = next(n for n, _ in model.named_parameters() if n.endswith("weight_orig"))
    assert results[0][name][masked].abs().max() == 0


def test_a_module_whose_buffers_change_is_refused():
    model = tiny(**OPTIONS)
    spectral_norm(model.stack.layers[1].feed_forward.inner.w_in)
    with pytest.raises(RuntimeError, match=r"buffer 'inner.w_in.parametrizations.weight.0._u' .* use reversible=False"):
        loss_of(model.train())
    # In evaluation mode its buffers stand still, and so they do in every mode with ordinary autograd.
    results = []
    for model in pair():
        torch.manual_seed(1)
        spectral_norm(model.stack.layers[1].feed_forward.inner.w_in)
        results.append(loss_and_gradients(model.eval(), loss_of))
    assert_same(*results)
    loss_of(model.train()).backward()


class Counting(nn.Module):
    """x times the number of its calls, a buffer."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls.add_(1) if self.in_place else self.calls + 1
        return x * self.calls


@pytest.mark.parametrize("in_place", [True, False])
def test_a_buffer_that_counts_calls_is_refused(in_place: bool):
    model = tiny(**OPTIONS)
    branch = model.stack.layers[1].attention
    branch.norm = nn.Sequential(branch.norm, Counting(in_place))
    with pytest.raises(RuntimeError, match=r"buffer 'norm.1.calls' .* use reversible=False"):
        loss_of(model)


def test_random_numbers_of_a_foreign_module_are_drawn_again():
    results = []
    for model in pair():
        for layer in model.stack.layers:
            for branch in layer.branches():
                branch.norm = nn.Sequential(branch.norm, nn.Dropout(0.3))
        torch.manual_seed(5)
        results.append(loss_and_gradients(model, loss_of))
        results[-1]["next"] = torch.rand(3)
    assert_same(*results)


def test_the_mode_of_a_foreign_module_is_that_of_the_forward_pass():
    results = []
    for model in pair():
        for layer in model.stack.layers:
            layer.attention.norm = nn.Sequential(layer.attention.norm, nn.Dropout(0.3))
        model.stack.layers[1].attention.eval()

        def compute(m: ReformerLM) -> Tensor:
            torch.manual_seed(5)
            loss = loss_of(m)
            m.eval()
            return loss

        results.append(loss_and_gradients(model, compute))
    assert_same(*results)


class Detached(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.detach(), None)


def test_a_parameter_that_would_stand_still_is_named():
    model = tiny(**OPTIONS)
    inner = model.stack.layers[1].attention.inner
    lost = Detached(8, 8, bias=False).double()
    lost.weight = inner.to_q.weight
    inner.to_q = lost
    with pytest.raises(RuntimeError, match=r"'inner.to_q.weight' .* got no gradient"):
        loss_of(model).backward()
    lost.requires_grad_(False)
    loss_of(model).backward()


def test_what_a_hook_brings_into_the_graph_learns():
    results = []
    for model in pair():
        prompt = nn.Parameter(torch.full((8,), 0.1, dtype=torch.float64))
        model.stack.layers[1].attention.inner.to_v.register_forward_hook(lambda m, args, out, p=prompt: out + p)
        gradients = loss_and_gradients(model, loss_of)
        results.append({**gradients, "prompt": prompt.grad})
    assert_same(*results)
    assert results[0]["prompt"].abs().max() > 0


def test_functional_call_with_other_parameters():
    results = []
    for model in pair():
        given = {name: (p.detach() * 0.7).requires_grad_() for name, p in model.named_parameters()}
        tokens = some_tokens()
        loss = torch.func.functional_call(model, given, (tokens,), {"targets": tokens.roll(-1, 1), "seed": 3})
        loss.backward()
        assert all(p.grad is None for p in model.parameters())
        results.append({name: p.grad for name, p in given.items()})
    assert_same(*results)
    other = tiny(**OPTIONS)
    other.load_state_dict({name: p.detach() for name, p in given.items()})
    expected = loss_and_gradients(other, loss_of)
    del expected["loss"]
    assert_same(results[0], expected)


@pytest.mark.parametrize("transform", ["grad", "vmap"])
def test_transforms_of_torch_func_are_refused_in_a_line(transform: str):
    model, tokens = tiny(**OPTIONS), some_tokens()
    given = dict(model.named_parameters())

    def loss(parameters, seed):
        return torch.func.functional_call(model, parameters, (tokens,), {"targets": tokens, "seed": seed})

    calls = {
        "grad": lambda: torch.func.grad(loss)(given, 3),
        "vmap": lambda: torch.func.vmap(loss, in_dims=(None, 0))(given, torch.arange(2)),
    }
    with pytest.raises((RuntimeError, ValueError), match=r"reversible=False|seed"):
        calls[transform]()


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
def test_dynamic_quantisation():
    model = tiny(**OPTIONS).float().eval()
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, torch.qint8)
    assert not [m for m in quantised.modules() if type(m) is nn.Linear]
    plain = copy.deepcopy(quantised)
    plain.stack.reversible = False
    tokens = some_tokens()
    with torch.no_grad():
        expected, found = model(tokens, seed=3), quantised(tokens, seed=3)
        assert torch.equal(found, plain(tokens, seed=3))
        assert 0 < (found - expected).abs().max() < 0.5
        assert loss_of(quantised).isfinite()
    state = quantised.decoding_state(2, seed=3)
    assert quantised.decode(tokens, state).shape == expected.shape
    assert quantised.decode(tokens[:, :1], state).isfinite().all()


def test_weights_quantised_by_torchao():
    torchao = pytest.importorskip("torchao.quantization")
    model = tiny(d_model=32, d_ff=64, **OPTIONS).float().eval()
    quantised = copy.deepcopy(model)
    torchao.quantize_(quantised, torchao.Int8WeightOnlyConfig())
    assert all(type(linear.weight.data) is not Tensor for linear in linears(quantised))
    tokens = some_tokens()
    with torch.no_grad():
        assert 0 < relative_error(quantised(tokens, seed=3), model(tokens, seed=3)) < 0.1
        assert abs(loss_of(quantised) - loss_of(model)) < 0.1
    states = [m.decoding_state(2, seed=3) for m in (quantised, model)]
    for part in (tokens, tokens[:, :1]):
        found, expected = (m.decode(part, state) for m, state in zip((quantised, model), states, strict=True))
        assert 0 < relative_error(found, expected) < 0.1


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_cpu_offload():
    accelerate = pytest.importorskip("accelerate")
    model = tiny(**OPTIONS).float().eval()
    tokens = some_tokens()
    with torch.no_grad():
        expected = model(tokens, seed=3)
        state = model.decoding_state(2, seed=3)
        decoded = [model.decode(tokens, state), model.decode(tokens[:, :1], state)]
        offloaded = accelerate.cpu_offload(copy.deepcopy(model), torch.device("cpu"))
        assert all(p.is_meta for p in offloaded.parameters())
        assert torch.equal(offloaded(tokens, seed=3), expected)
        assert torch.equal(loss_of(offloaded), loss_of(model))
        state = offloaded.decoding_state(2, seed=3)
        for part, value in zip((tokens, tokens[:, :1]), decoded, strict=True):
            assert torch.equal(offloaded.decode(part, state), value)


@pytest.mark.parametrize("tied", [True, False])
def test_made_on_the_meta_device_then_filled(tied: bool):
    changes = {"tie_embeddings": tied, **OPTIONS}
    config = tiny(**changes).config
    with torch.device("meta"):
        model = ReformerLM(config)
    assert all(p.is_meta for p in model.parameters())
    model.to_empty(device="cpu")
    for p in model.parameters():
        p.data.fill_(float("nan"))
    torch.manual_seed(0)
    model.reset_parameters()
    torch.manual_seed(0)
    usual = ReformerLM(config)
    for (name, p), q in zip(model.named_parameters(), usual.parameters(), strict=True):
        assert p.isfinite().all(), name
        found, expected = float(p.detach().std()), float(q.detach().std())
        assert abs(found - expected) < 0.35 * expected + 0.02, name
    loss_of(model).backward()
    other = ReformerLM(config)
    other.load_state_dict(model.state_dict())
    assert torch.equal(loss_of(other), loss_of(model))


def test_layers_are_modules_that_are_called():
    model, called = tiny(**OPTIONS), []
    for layer in model.stack.layers:
        assert isinstance(layer, ReversibleLayer)
        layer.register_forward_hook(lambda module, args, out: called.append(module))
    loss_of(model).backward()
    assert called == list(model.stack.layers)
