import pytest
import torch
from torch import nn

from reformer.ops import Branch, reversible_sequence
from reformer.testing import exact_normal, outputs_and_gradients, saved_tensors

from .helpers import refuses


def tanh_branch(w: torch.Tensor, b: torch.Tensor) -> Branch:
    def function(x, parameters, saved):
        return torch.tanh(x @ parameters[0] + parameters[1]), ()

    return Branch(function, (w, b))


def some_layers(depth: int, width: int = 4, seed: int = 0) -> list[tuple[Branch, Branch]]:
    def branch(n: int) -> Branch:
        w = nn.Parameter(exact_normal(width, width, seed=seed + n))
        return tanh_branch(w, nn.Parameter(exact_normal(width, seed=seed + n + 500)))

    return [(branch(2 * n), branch(2 * n + 1)) for n in range(depth)]


def parameters_of(layers) -> list[nn.Parameter]:
    return [p for pair in layers for branch in pair for p in branch.parameters]


def by_hand(x1, x2, layers):
    for f, g in layers:
        x1 = x1 + torch.tanh(x2 @ f.parameters[0] + f.parameters[1])
        x2 = x2 + torch.tanh(x1 @ g.parameters[0] + g.parameters[1])
    return x1, x2


def streams(seed: int = 70):
    return [exact_normal(3, 4, seed=seed + n).requires_grad_() for n in range(2)]


def loss_of(outputs) -> torch.Tensor:
    return (outputs[0] * 0.3).sum() + outputs[1].square().sum()


@pytest.mark.parametrize("reversible", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_equals_the_formula(depth: int, reversible: bool):
    layers, (x1, x2) = some_layers(depth), streams()
    outputs, expected = reversible_sequence(x1, x2, layers, reversible=reversible), by_hand(x1, x2, layers)
    wanted = [x1, x2, *parameters_of(layers)]
    for found, value in zip(outputs, expected):
        torch.testing.assert_close(found, value, rtol=1e-14, atol=1e-14)
    for found, value in zip(*(torch.autograd.grad(loss_of(y), wanted) for y in (outputs, expected))):
        torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    shapes = [(2, 3), (2, 3), (3, 3), (3,), (3, 3), (3,)]
    leaves = [exact_normal(*s, seed=n).requires_grad_() for n, s in enumerate(shapes)]

    def function(x1, x2, w1, b1, w2, b2):
        return reversible_sequence(x1, x2, [(tanh_branch(w1, b1), tanh_branch(w2, b2))])

    assert torch.autograd.gradcheck(function, leaves)


def test_one_tensor_for_both_streams():
    layers = some_layers(2)
    x = exact_normal(3, 4).requires_grad_()
    wanted = [x, *parameters_of(layers)]
    found = torch.autograd.grad(loss_of(reversible_sequence(x, x, layers)), wanted)
    expected = torch.autograd.grad(loss_of(by_hand(x, x, layers)), wanted)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("frozen", range(16))
def test_every_choice_of_frozen_parameters(frozen: int):
    layers, (x1, x2) = some_layers(1), streams()
    parameters = parameters_of(layers)
    for bit, parameter in enumerate(parameters):
        parameter.requires_grad_(not frozen >> bit & 1)
    x1.requires_grad_(frozen % 3 != 0)
    x2.requires_grad_(frozen % 5 != 0)
    free = [p for p in (x1, x2, *parameters) if p.requires_grad]
    outputs = reversible_sequence(x1, x2, layers)
    assert all(y.requires_grad == bool(free) for y in outputs)
    if not free:
        return
    found = torch.autograd.grad(loss_of(outputs), free)
    expected = torch.autograd.grad(loss_of(by_hand(x1, x2, layers)), free)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    loss_of(reversible_sequence(x1, x2, layers)).backward()
    assert all((p.grad is not None) == p.requires_grad for p in (x1, x2, *parameters))


@pytest.mark.parametrize("used", [0, 1])
def test_one_output_alone(used: int):
    layers, (x1, x2) = some_layers(2), streams()
    wanted = [x1, x2, *parameters_of(layers)]
    found, expected = (
        torch.autograd.grad(f(x1, x2, layers)[used].sum(), wanted, allow_unused=True, materialize_grads=True)
        for f in (reversible_sequence, by_hand)
    )
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_shared_parameter_gets_both_gradients():
    w, b = nn.Parameter(exact_normal(4, 4)), nn.Parameter(exact_normal(4, seed=1))
    layers, (x1, x2) = [(tanh_branch(w, b), tanh_branch(w, b))] * 2, streams()
    found, expected = (
        torch.autograd.grad(loss_of(f(x1, x2, layers)), [w, b, x1]) for f in (reversible_sequence, by_hand)
    )
    for a, c in zip(found, expected):
        torch.testing.assert_close(a, c, rtol=1e-10, atol=1e-12)


def test_branches_run_once_forward_and_once_backward_with_what_they_saved():
    calls = []

    def branch(name: str) -> Branch:
        def function(x, parameters, saved):
            calls.append((name, None if saved is None else int(saved[0])))
            # What must not be computed again: another value at every call without `saved`.
            saved = (torch.tensor(len(calls)),) if saved is None else saved
            return x * parameters[0] * saved[0], saved

        return Branch(function, (nn.Parameter(torch.tensor(0.5, dtype=torch.float64)),))

    layers = [(branch("f1"), branch("g1")), (branch("f2"), branch("g2"))]
    x1, x2 = streams()
    outputs = reversible_sequence(x1, x2, layers)
    assert calls == [("f1", None), ("g1", None), ("f2", None), ("g2", None)]
    factors = [0.5, 1.0, 1.5, 2.0]
    torch.testing.assert_close(outputs[0], x1 + x2 * 0.5 + (x2 + (x1 + x2 * factors[0]) * factors[1]) * factors[2])
    calls.clear()
    loss_of(outputs).backward()
    assert calls == [("g2", 4), ("f2", 3), ("g1", 2), ("f1", 1)]


def test_memory_does_not_grow_with_depth():
    def kept(depth: int, reversible: bool) -> int:
        layers = some_layers(depth)
        with saved_tensors() as kept:
            reversible_sequence(*streams(), layers, reversible=reversible)
        own = {id(p) for p in parameters_of(layers)}
        return sum(t.numel() for t in kept if id(t) not in own and t.shape == (3, 4))

    assert kept(2, True) == kept(8, True) == 2 * 12
    assert kept(8, False) >= 4 * kept(2, False) > 0


def test_rebuilt_streams_of_a_deep_stack_stay_exact():
    layers, (x1, x2) = some_layers(40), streams()
    wanted = [x1, x2]
    found, expected = (torch.autograd.grad(loss_of(f(x1, x2, layers)), wanted) for f in (reversible_sequence, by_hand))
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def autocast_spy():
    """(seen, layers): ``seen`` collects the autocast dtype, or None, at each call of a branch."""
    seen: list[torch.dtype | None] = []

    def function(x, parameters, saved):
        seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return nn.functional.linear(x, parameters[0]), ()

    branch = Branch(function, (nn.Parameter(torch.randn(4, 4)),))
    return seen, [(branch, branch)]


def test_backward_outside_autocast_of_a_forward_inside():
    seen, layers = autocast_spy()
    x1, x2 = (x.detach().float().requires_grad_() for x in streams())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = reversible_sequence(x1, x2, layers)
    loss_of(outputs).backward()
    assert seen == [torch.bfloat16] * 4
    assert all(y.dtype == torch.float32 for y in outputs)


def test_backward_inside_autocast_of_a_forward_outside():
    seen, layers = autocast_spy()
    x1, x2 = (x.detach().float().requires_grad_() for x in streams())
    outputs = reversible_sequence(x1, x2, layers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_of(outputs).backward()
    assert seen == [None] * 4


def test_gradient_mode_off():
    layers, (x1, x2) = some_layers(2), streams()
    with torch.no_grad():
        outputs = reversible_sequence(x1, x2, layers)
    assert not outputs[0].requires_grad
    torch.testing.assert_close(outputs[0], by_hand(x1, x2, layers)[0])


def test_outputs_of_no_layers_are_not_the_inputs_themselves():
    x1, x2 = streams()
    y1, y2 = reversible_sequence(x1, x2, [])
    assert y1 is not x1 and torch.equal(y1, x1) and torch.equal(y2, x2)
    assert all(g.eq(1).all() for g in torch.autograd.grad((y1 + y2).sum(), [x1, x2]))


def reading(w: nn.Parameter, name: str, calls: list) -> Branch:
    def function(x, tensors, saved):
        own, memory, other = tensors
        calls.append(name)
        return torch.tanh(x @ own + memory) * other, ()

    return Branch(function, (w,), reads_shared=True)


def three_by_hand(x1, x2, layers, memory, other):
    for f, g, h in layers:
        x1 = x1 + torch.tanh(x2 @ f.parameters[0] + f.parameters[1])
        x2 = x2 + torch.tanh(x1 @ g.parameters[0] + memory) * other
        x1 = x1 + torch.tanh(x2 @ h.parameters[0] + h.parameters[1])
        x1, x2 = x2, x1
    return x1, x2


@pytest.mark.parametrize("free", ["both", "memory", "other", "none"])
@pytest.mark.parametrize("reversible", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_three_functions_a_layer_that_share_tensors(depth: int, reversible: bool, free: str):
    pairs, calls = some_layers(depth), []
    layers = [
        (f, reading(nn.Parameter(exact_normal(4, 4, seed=n)), str(n), calls), h) for n, (f, h) in enumerate(pairs)
    ]
    memory, other = exact_normal(3, 4, seed=90), exact_normal(3, 4, seed=91)
    memory.requires_grad_(free in ("both", "memory"))
    other.requires_grad_(free in ("both", "other"))
    (x1, x2), seen = streams(), []
    if memory.requires_grad:
        memory.register_hook(lambda g: seen.append(g))
    outputs = reversible_sequence(x1, x2, layers, shared=(memory, other), reversible=reversible)
    expected = three_by_hand(x1, x2, layers, memory, other)
    wanted = [x for x in (x1, x2, memory, other, *parameters_of(layers)) if x.requires_grad]
    for found, value in zip(outputs, expected):
        torch.testing.assert_close(found, value, rtol=1e-14, atol=1e-14)
    gradients = torch.autograd.grad(loss_of(outputs), wanted)
    # One gradient, the sum over all layers, reaches a shared tensor.
    assert len(seen) == memory.requires_grad
    for found, value in zip(gradients, torch.autograd.grad(loss_of(expected), wanted)):
        torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-12)
    assert len(calls) == depth * (2 if reversible else 1)


def test_streams_of_different_shapes_or_dtypes_are_refused():
    with refuses(ValueError, "one shape and dtype", "[2, 3] torch.float32", "[2, 4] torch.float32"):
        reversible_sequence(torch.zeros(2, 3), torch.zeros(2, 4), [])
    with refuses(ValueError, "one shape and dtype", "torch.float32", "torch.float64"):
        reversible_sequence(torch.zeros(2, 3), torch.zeros(2, 3).double(), [])


def test_results_are_the_same_bytes_every_time():
    layers, (x1, x2) = some_layers(3), streams()
    first, again = (outputs_and_gradients(lambda a, b: reversible_sequence(a, b, layers), x1, x2) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_second_derivatives_are_refused_not_wrong():
    layers, (x1, x2) = some_layers(2), streams()
    (first,) = torch.autograd.grad(loss_of(reversible_sequence(x1, x2, layers)), x1, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()
    (plain,) = torch.autograd.grad(
        loss_of(reversible_sequence(x1, x2, layers, reversible=False)), x1, create_graph=True
    )
    (second,) = torch.autograd.grad(plain.square().sum(), x1)
    assert second.isfinite().all() and second.abs().max() > 0
