"""Reversible layers of arbitrary residual functions: rebuilt activations, gradients, what is called when."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from reformer.layers import DecodingStep, ParallelPass, ReversibleStack
from reformer.testing import exact_normal, outputs_and_gradients, saved_tensors

from .helpers import refuses


class Trained(nn.Module):
    """A residual function that is called in training only."""

    def forward(self, x: Tensor, how: ParallelPass) -> Tensor:
        return how.through(self, x)

    def step(self, x: Tensor, decoding: DecodingStep) -> Tensor:
        raise AssertionError("nothing is generated here")


class Tanh(Trained):
    """tanh(x · w + b)."""

    def __init__(self, seed: int, width: int = 4) -> None:
        super().__init__()
        self.w = nn.Parameter(exact_normal(width, width, seed=seed))
        self.b = nn.Parameter(exact_normal(width, seed=seed + 500))

    def run(self, x: Tensor, parallel: ParallelPass) -> Tensor:
        return torch.tanh(x @ self.w + self.b)


class Reading(Tanh):
    """tanh(x · w + memory), what a decoder's second function is like."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.b, self.calls = None, 0

    def run(self, x: Tensor, parallel: ParallelPass) -> Tensor:
        self.calls += 1
        return torch.tanh(x @ self.w + parallel.memory)


def some_stack(depth: int, *, reversible: bool = True, reading: bool = False) -> ReversibleStack:
    pairs = [(Tanh(2 * n), Tanh(2 * n + 1)) for n in range(depth)]
    readers = [Reading(100 + n) for n in range(depth)] if reading else ()
    made = ReversibleStack(4, pairs, cross_attention=readers, reversible=reversible).double()
    for n, p in enumerate(made.parameters()):
        if p.dim() == 1:
            p.data.copy_(exact_normal(4, seed=300 + n))
    return made


def by_hand(stack: ReversibleStack, x1: Tensor, x2: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
    for layer in stack.layers:
        for branch in filter(None, (layer.attention, layer.cross_attention, layer.feed_forward)):
            inner, x = branch.inner, branch.norm(x2)
            x1, x2 = x2, x1 + torch.tanh(x @ inner.w + (memory if inner.b is None else inner.b))
    return x1, x2


def streams(seed: int = 70) -> list[Tensor]:
    return [exact_normal(2, 3, 4, seed=seed + n).requires_grad_() for n in range(2)]


def loss_of(outputs: tuple[Tensor, Tensor]) -> Tensor:
    return (outputs[0] * 0.3).sum() + outputs[1].square().sum()


def assert_gradients(stack: ReversibleStack, wanted: list[Tensor], outputs, expected) -> None:
    found = torch.autograd.grad(loss_of(outputs), wanted)
    for a, b in zip(found, torch.autograd.grad(loss_of(expected), wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reversible", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_equals_the_formula(depth: int, reversible: bool):
    stack, (x1, x2) = some_stack(depth, reversible=reversible), streams()
    outputs, expected = stack(x1, x2), by_hand(stack, x1, x2)
    for found, value in zip(outputs, expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-14, atol=1e-14)
    assert_gradients(stack, [x1, x2, *stack.parameters()], outputs, expected)


def test_gradients_are_those_of_finite_differences():
    stack = some_stack(1)
    names, parameters = zip(*stack.named_parameters(), strict=True)
    leaves = [x.detach()[:1, :2].requires_grad_() for x in streams()]

    def function(x1: Tensor, x2: Tensor, *values: Tensor):
        return functional_call(stack, dict(zip(names, values, strict=True)), (x1, x2))

    assert torch.autograd.gradcheck(function, [*leaves, *(p.detach().requires_grad_() for p in parameters)])


def test_parameters_given_to_functional_call_count_also_after_it():
    """The backward pass comes when the module has its own parameters again; frozen ones and buffers too."""
    stack, (x1, x2) = some_stack(2), streams()
    stack.layers[0].attention.inner.b.requires_grad_(False)
    given = {name: p.detach() * 0.5 for name, p in stack.named_parameters()}
    free = {name: p.requires_grad_() for name, p in given.items() if not name.endswith("0.attention.inner.b")}
    found = torch.autograd.grad(loss_of(functional_call(stack, given, (x1, x2))), [x1, *free.values()])
    stack.load_state_dict(given)
    expected = torch.autograd.grad(
        loss_of(by_hand(stack, x1, x2)), [x1, *(p for n, p in stack.named_parameters() if n in free)]
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_one_tensor_for_both_streams():
    stack, (x, _) = some_stack(2), streams()
    assert_gradients(stack, [x, *stack.parameters()], stack(x, x), by_hand(stack, x, x))


@pytest.mark.parametrize("frozen", range(16))
def test_every_choice_of_frozen_parameters(frozen: int):
    stack, (x1, x2) = some_stack(1), streams()
    for branch in stack.layers[0].branches():
        branch.norm.requires_grad_(False)
    parameters = [p for branch in stack.layers[0].branches() for p in branch.inner.parameters()]
    for bit, parameter in enumerate(parameters):
        parameter.requires_grad_(not frozen >> bit & 1)
    x1.requires_grad_(frozen % 3 != 0)
    x2.requires_grad_(frozen % 5 != 0)
    free = [p for p in (x1, x2, *parameters) if p.requires_grad]
    outputs = stack(x1, x2)
    assert all(y.requires_grad == bool(free) for y in outputs)
    if not free:
        return
    assert_gradients(stack, free, outputs, by_hand(stack, x1, x2))
    loss_of(stack(x1, x2)).backward()
    assert all((p.grad is not None) == p.requires_grad for p in (x1, x2, *parameters))


@pytest.mark.parametrize("used", [0, 1])
def test_one_output_alone(used: int):
    stack, (x1, x2) = some_stack(2), streams()
    wanted = [x1, x2, *stack.parameters()]
    found, expected = (
        torch.autograd.grad(y[used].sum(), wanted, allow_unused=True, materialize_grads=True)
        for y in (stack(x1, x2), by_hand(stack, x1, x2))
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_layer_inside_counts_beside_the_end():
    """Deep supervision: the loss reads a layer's output, seen by a hook, and the end of the stack."""
    results = []
    for reversible in (True, False):
        stack, (x1, x2), seen = some_stack(3, reversible=reversible), streams(), []
        stack.layers[1].register_forward_hook(lambda module, args, out, seen=seen: seen.append(out[1]))
        outputs = stack(x1, x2)
        loss = loss_of(outputs) + seen[0].square().sum()
        results.append(torch.autograd.grad(loss, [x1, x2, *stack.parameters()]))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_loss_of_the_inside_alone_is_refused():
    stack, (x1, x2), seen = some_stack(3), streams(), []
    stack.layers[1].register_forward_hook(lambda module, args, out: seen.append(out[1]))
    stack(x1, x2)
    with refuses(RuntimeError, "reads a layer inside a reversible stack", "use reversible=False"):
        seen[0].sum().backward()


def test_a_shared_parameter_gets_both_gradients():
    stack, (x1, x2) = some_stack(2), streams()
    first = stack.layers[0].attention.inner
    for layer in stack.layers:
        layer.attention.inner = layer.feed_forward.inner = first
    wanted = [first.w, first.b, x1]
    assert_gradients(stack, wanted, stack(x1, x2), by_hand(stack, x1, x2))


class Saving(Trained):
    """x · w · (the number of its call): what must not be computed again is kept."""

    def __init__(self, name: str, calls: list) -> None:
        super().__init__()
        self.name, self.calls = name, calls
        self.w = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def run(self, x: Tensor, parallel: ParallelPass) -> Tensor:
        self.calls.append((self.name, int(parallel.saved[0]) if parallel.saved else None))
        if not parallel.saved:
            parallel.saved.append(torch.tensor(len(self.calls)))
        return x * self.w * parallel.saved[0]


def test_branches_run_once_forward_and_once_backward_with_what_they_saved():
    calls: list = []
    stack = ReversibleStack(4, [(Saving(f"f{n}", calls), Saving(f"g{n}", calls)) for n in (1, 2)])
    for branch in (b for layer in stack.layers for b in layer.branches()):
        branch.norm = nn.Identity()
    x1, x2 = streams()
    outputs = stack(x1, x2)
    assert calls == [("f1", None), ("g1", None), ("f2", None), ("g2", None)]
    factors = [0.5, 1.0, 1.5, 2.0]
    torch.testing.assert_close(outputs[0], x1 + x2 * 0.5 + (x2 + (x1 + x2 * factors[0]) * factors[1]) * factors[2])
    calls.clear()
    loss_of(outputs).backward()
    assert calls == [("g2", 4), ("f2", 3), ("g1", 2), ("f1", 1)]


def test_gradients_of_a_layer_are_there_before_the_layer_below_is_computed_again():
    """So that DistributedDataParallel sends them while the backward pass goes on."""
    stack, (x1, x2), events = some_stack(3), streams(), []
    outputs = stack(x1, x2)
    for n, layer in enumerate(stack.layers):
        layer.attention.register_forward_hook(lambda *a, n=n: events.append(("replay", n)))
        layer.attention.inner.w.register_post_accumulate_grad_hook(lambda p, n=n: events.append(("gradient", n)))
    loss_of(outputs).backward()
    assert events == [(what, n) for n in (2, 1, 0) for what in ("replay", "gradient")]


def test_memory_does_not_grow_with_depth():
    def kept(depth: int, reversible: bool) -> int:
        stack = some_stack(depth, reversible=reversible)
        with saved_tensors() as kept:
            stack(*streams())
        own = {p.untyped_storage().data_ptr() for p in stack.parameters()}
        return sum(t.numel() for t in kept if t.untyped_storage().data_ptr() not in own and t.shape == (2, 3, 4))

    assert kept(2, True) == kept(8, True) == 2 * 24
    assert kept(8, False) >= 4 * kept(2, False) > 0


def test_rebuilt_streams_of_a_deep_stack_stay_exact():
    stack, (x1, x2) = some_stack(40), streams()
    found, expected = (torch.autograd.grad(loss_of(y), [x1, x2]) for y in (stack(x1, x2), by_hand(stack, x1, x2)))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


class Spy(nn.Linear):
    """Notes the autocast dtype, or None, of each call."""

    def __init__(self, seen: list) -> None:
        super().__init__(4, 4)
        self.seen = seen

    def forward(self, x: Tensor, how: ParallelPass) -> Tensor:
        self.seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return super().forward(x)


def test_backward_outside_autocast_of_a_forward_inside():
    seen: list = []
    stack = ReversibleStack(4, [(Spy(seen), Spy(seen))])
    x1, x2 = (x.detach().float().requires_grad_() for x in streams())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = stack(x1, x2)
    loss_of(outputs).backward()
    assert seen == [torch.bfloat16] * 4
    assert all(y.dtype == torch.float32 for y in outputs)


def test_backward_inside_autocast_of_a_forward_outside():
    seen: list = []
    stack = ReversibleStack(4, [(Spy(seen), Spy(seen))])
    x1, x2 = (x.detach().float().requires_grad_() for x in streams())
    outputs = stack(x1, x2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_of(outputs).backward()
    assert seen == [None] * 4


def test_gradient_mode_off():
    stack, (x1, x2) = some_stack(2), streams()
    with torch.no_grad():
        outputs = stack(x1, x2)
    assert not outputs[0].requires_grad
    torch.testing.assert_close(outputs[0], by_hand(stack, x1, x2)[0])


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("reversible", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_three_functions_a_layer_that_read_one_memory(depth: int, reversible: bool, learns: bool):
    stack = some_stack(depth, reversible=reversible, reading=True)
    memory = exact_normal(2, 3, 4, seed=90).requires_grad_(learns)
    (x1, x2), seen = streams(), []
    if learns:
        memory.register_hook(lambda g: seen.append(g))
    outputs, expected = stack(x1, x2, memory=memory), by_hand(stack, x1, x2, memory)
    for found, value in zip(outputs, expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-14, atol=1e-14)
    wanted = [x for x in (x1, x2, memory, *stack.parameters()) if x.requires_grad]
    gradients = torch.autograd.grad(loss_of(outputs), wanted)
    # One gradient, the sum over all layers, reaches the memory.
    assert len(seen) == learns
    for found, value in zip(gradients, torch.autograd.grad(loss_of(expected), wanted), strict=True):
        torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-12)
    assert sum(layer.cross_attention.inner.calls for layer in stack.layers) == depth * (2 if reversible else 1)


def test_streams_of_different_shape_or_dtype_are_refused():
    stack = ReversibleStack(3, [])
    with refuses(ValueError, "one shape and dtype", "[2, 3] torch.float32", "[2, 4] torch.float32"):
        stack(torch.zeros(2, 3), torch.zeros(2, 4))
    with refuses(ValueError, "one shape and dtype", "torch.float32", "torch.float64"):
        stack(torch.zeros(2, 3), torch.zeros(2, 3).double())


def test_the_same_bits_every_time():
    stack, (x1, x2) = some_stack(3), streams()
    first, again = (outputs_and_gradients(lambda a, b: stack(a, b), x1, x2) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_second_derivatives_need_the_ordinary_backward():
    stack, (x1, x2) = some_stack(1), streams()
    (first,) = torch.autograd.grad(loss_of(stack(x1, x2)), x1, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    stack.reversible = False
    (first,) = torch.autograd.grad(loss_of(stack(x1, x2)), x1, create_graph=True)
    assert torch.autograd.grad(first.sum(), x1)[0].abs().sum() > 0
