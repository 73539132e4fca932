import numpy as np
import pytest
import torch

from reformer.tasks.config import OptimizerConfig
from reformer.training.checkpoint import read_checkpoint, save_checkpoint
from reformer.training.muon import Muon
from reformer.training.optim import Adafactor, load_optimizer, optimizer_tensors
from reformer.training.optim import build_optimizer as build

SHAPES = {"bias": (7,), "matrix": (5, 8), "stack": (3, 4, 6), "scalar": ()}


def gradients(shape, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * (0.1 + 10 * (t % 7 == 0)) for t in range(steps)]


def start(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(9)) * 0.3


def run(optimizer, parameter, grads, lr=None):
    for t, gradient in enumerate(grads, start=1):
        if lr is not None:
            optimizer.param_groups[0]["lr"] = lr(t)
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def by_formula(weight, grads, lr, weight_decay=0.0, cap=False):
    """Algorithm 4 of the paper, written out in float64 without regard for memory."""
    weight = weight.double().numpy().copy()
    variance = rows = columns = 0.0
    for t, gradient in enumerate(grads, start=1):
        gradient = gradient.double().numpy()
        decay, square = 1 - t**-0.8, gradient**2 + 1e-30
        if weight.ndim < 2:
            variance = decay * variance + (1 - decay) * square
            estimate = variance
        else:
            rows = decay * rows + (1 - decay) * square.sum(-1, keepdims=True)
            columns = decay * columns + (1 - decay) * square.sum(-2, keepdims=True)
            estimate = rows * columns / rows.sum(-2, keepdims=True)
        update = gradient / np.sqrt(estimate)
        update /= max(1.0, np.sqrt(np.mean(update**2)))
        rate = min(lr(t), t**-0.5) if cap else lr(t)
        rate *= max(1e-3, np.sqrt(np.mean(weight**2)))
        weight = (1 - weight_decay) * weight - rate * update
    return torch.from_numpy(np.asarray(weight))


def torchs(parameter, lr):
    return torch.optim.Adafactor([parameter], lr=lr, eps=(1e-30, 1e-3), weight_decay=0.0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_agrees_with_torch_below_its_cap(shape):
    lr, grads = 0.05, gradients(shape, 50)  # 1/sqrt(50) = 0.14
    mine, theirs = torch.nn.Parameter(start(shape)), torch.nn.Parameter(start(shape))
    ours = run(Adafactor([mine], lr, weight_decay=0.0), mine, grads)
    torch.testing.assert_close(ours, run(torchs(theirs, lr), theirs, grads), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_above_torchs_cap_only_ours_follows_the_formula(shape):
    grads = gradients(shape, 50)
    mine, theirs = torch.nn.Parameter(start(shape)), torch.nn.Parameter(start(shape))
    ours = run(Adafactor([mine], 0.4, weight_decay=0.0), mine, grads).double()
    capped = run(torchs(theirs, 0.4), theirs, grads).double()
    right = by_formula(start(shape), grads, lambda t: 0.4)
    torch.testing.assert_close(ours, right, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(capped, by_formula(start(shape), grads, lambda t: 0.4, cap=True), rtol=1e-4, atol=1e-5)
    assert (capped - right).norm() > 0.05 * right.norm()


def test_the_papers_schedule_is_halved_by_torchs_cap():
    def lr(t):
        return 2.0 * min(t, 10) / 10 / max(t, 10) ** 0.5

    grads = gradients((5, 8), 12)
    mine, theirs = torch.nn.Parameter(start((5, 8))), torch.nn.Parameter(start((5, 8)))
    optimizer, other = Adafactor([mine], 0.0, weight_decay=0.0), torchs(theirs, 0.0)
    run(optimizer, mine, grads[:11], lr)
    run(other, theirs, grads[:11], lr)
    theirs.data.copy_(mine.data)
    before = mine.detach().clone()
    for each, parameter in ((optimizer, mine), (other, theirs)):
        each.param_groups[0]["lr"] = lr(12)
        parameter.grad = grads[11].clone()
        each.step()
    torch.testing.assert_close(mine.data - before, 2 * (theirs.data - before), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_weight_decay_is_decoupled_and_not_scaled_by_the_rate(shape):
    grads = gradients(shape, 20)
    mine = torch.nn.Parameter(start(shape))
    ours = run(Adafactor([mine], 0.01, weight_decay=0.01), mine, grads).double()
    right = by_formula(start(shape), grads, lambda t: 0.01, weight_decay=0.01)
    torch.testing.assert_close(ours, right, rtol=1e-4, atol=1e-5)
    assert (by_formula(start(shape), grads, lambda t: 0.01) - right).norm() > 0.02 * right.norm()


def test_an_update_is_clipped_at_rms_one_and_scaled_by_the_weight():
    parameter = torch.nn.Parameter(torch.full((4, 4), 0.5))
    optimizer = Adafactor([parameter], 0.1, weight_decay=0.0)
    run(optimizer, parameter, [torch.full((4, 4), 1e-3)])
    before = parameter.detach().clone()
    run(optimizer, parameter, [torch.full((4, 4), 1e3)])  # unclipped: 1/sqrt(1 - b) = 2**0.4 = 1.3 times as far
    torch.testing.assert_close(before - parameter, torch.full((4, 4), 0.1 * before[0, 0].item()))
    small = torch.nn.Parameter(torch.full((4,), 1e-5))
    moved = run(Adafactor([small], 0.1, weight_decay=0.0), small, [torch.ones(4)])
    torch.testing.assert_close(1e-5 - moved, torch.full((4,), 0.1 * 1e-3))  # the floor eps2


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e10])
def test_rows_and_weights_that_never_had_a_gradient_stay_and_nothing_is_nan(scale):
    gradient = torch.randn(6, 5) * scale
    gradient[2] = 0
    gradient[:, 3] = 0
    parameter = torch.nn.Parameter(torch.ones(6, 5))
    moved = run(Adafactor([parameter], 0.1, weight_decay=0.0), parameter, [gradient] * 5)
    assert moved.isfinite().all()
    assert (moved[2] == 1).all()
    assert (moved[:, 3] == 1).all()
    assert (moved[0, :3] != 1).all()
    zero = torch.nn.Parameter(torch.ones(6, 5))
    assert torch.equal(run(Adafactor([zero], 0.1, weight_decay=0.0), zero, [torch.zeros(6, 5)] * 3), torch.ones(6, 5))


def test_state_is_factored_and_float32_even_for_bfloat16_weights():
    parameter = torch.nn.Parameter(start((3, 4, 6)).bfloat16())
    optimizer = Adafactor([parameter], 0.1)
    run(optimizer, parameter, [torch.randn(3, 4, 6).bfloat16()])
    state = optimizer.state[parameter]
    shapes = {name: tuple(v.shape) for name, v in state.items() if name != "step"}
    assert shapes == {"row_variance": (3, 4), "column_variance": (3, 6)}
    assert {v.dtype for name, v in state.items() if name != "step"} == {torch.float32}
    assert parameter.dtype == torch.bfloat16


def test_closure_and_parameters_without_gradient():
    used, unused = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimizer = Adafactor([used, unused], 0.1)

    def closure():
        loss = used.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    assert torch.equal(unused.data, torch.ones(3))
    assert unused not in optimizer.state


def test_wrong_hyperparameters_and_gradients_are_refused():
    for options in ({"lr": -1.0}, {"decay_rate": -0.8}, {"weight_decay": float("nan")}, {"clip_threshold": 0.0}):
        with pytest.raises(ValueError, match=f"expected {next(iter(options))}"):
            Adafactor([torch.nn.Parameter(torch.ones(2))], **options)
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="expected dense real gradients"):
        Adafactor(table.parameters()).step()


def build_optimizer(name, named_parameters, **options):
    config = OptimizerConfig(
        name=name, **{"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-9, "weight_decay": 0.1, **options}
    )
    return build(config, named_parameters)


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 3))


def model_with_a_stack():
    return torch.nn.ModuleDict({"embedding": torch.nn.Linear(6, 6), "stack": model()})


def train(net, optimizer, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(4, 6, generator=generator)
        for part in net.values() if isinstance(net, torch.nn.ModuleDict) else [net]:
            x = part(x)
        x.square().sum().backward()
        optimizer.step()


def test_build_optimizer_keeps_weight_decay_from_norms_and_biases():
    net = model()
    for name, kind, decays in [
        ("adam", torch.optim.Adam, [0.0, 0.0]),
        ("adamw", torch.optim.AdamW, [0.1, 0.0]),
        ("adafactor", Adafactor, [0.1, 0.0]),
    ]:
        optimizer = build_optimizer(name, net.named_parameters())
        assert type(optimizer) is kind
        assert [group["weight_decay"] for group in optimizer.param_groups] == decays
        assert [len(group["params"]) for group in optimizer.param_groups] == [2, 4]
        assert optimizer.param_groups[0]["param_names"] == ["0.weight", "2.weight"]
        if name != "adafactor":
            assert all(group["fused"] and group["betas"] == (0.9, 0.98) for group in optimizer.param_groups)


def test_build_optimizer_leaves_frozen_parameters_out_and_lists_the_names():
    net = model()
    net[0].requires_grad_(False)
    optimizer = build_optimizer("adam", net.named_parameters())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4
    with pytest.raises(ValueError, match="one of 'adafactor', 'adam', 'adamw', 'muon', got 'sgd'"):
        build_optimizer("sgd", net.named_parameters())
    with pytest.raises(ValueError, match="got none"):
        build_optimizer("adam", net.requires_grad_(False).named_parameters())


def test_muon_takes_the_matrices_of_the_stack_and_adamw_the_rest():
    net, alone, rest = model_with_a_stack(), model_with_a_stack(), model_with_a_stack()
    optimizer = build_optimizer("muon", net.named_parameters(), others_lr_scale=0.5)
    names = [group["param_names"] for group in optimizer.param_groups]
    assert names[0] == ["stack.0.weight", "stack.2.weight"]
    assert sorted(names[1] + names[2]) == sorted(name for name, _ in net.named_parameters() if name not in names[0])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.0]
    assert [group["lr_scale"] for group in optimizer.param_groups] == [1.0, 0.5, 0.5]
    muon = Muon([alone["stack"][0].weight, alone["stack"][2].weight], 0.01, weight_decay=0.1)
    others = [parameter for name, parameter in rest.named_parameters() if name not in names[0]]
    adamw = torch.optim.AdamW(others, 0.005, (0.9, 0.98), 1e-9, weight_decay=0.0)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        for each in zip(net.parameters(), alone.parameters(), rest.parameters()):
            gradient = torch.randn(each[0].shape, generator=generator)
            for parameter in each:
                parameter.grad = gradient.clone()
        for each in (optimizer, muon, adamw):
            each.step()
    for (name, mine), one, other in zip(net.named_parameters(), alone.parameters(), rest.parameters()):
        torch.testing.assert_close(mine, one if name in names[0] else other, rtol=1e-5, atol=1e-7)


def test_muon_without_a_stack_is_refused():
    with pytest.raises(ValueError, match="expected matrices of a stack"):
        build_optimizer("muon", model().named_parameters())


@pytest.mark.parametrize("name", ["adam", "adamw", "adafactor", "muon"])
def test_training_continues_bit_for_bit_after_a_checkpoint(tmp_path, name):
    net = model_with_a_stack()
    optimizer = build_optimizer(name, net.named_parameters())
    train(net, optimizer, 5, seed=1)
    optimizer.param_groups[0]["lr"] = 0.0123456789
    tensors, meta = optimizer_tensors(optimizer)
    groups = {"model": net.state_dict(), "optimizer": tensors}
    saved = read_checkpoint(save_checkpoint(tmp_path, 5, groups, {"optimizer": meta}, keep_last=1))
    train(net, optimizer, 5, seed=2)

    again = model_with_a_stack()
    resumed = build_optimizer(name, again.named_parameters())
    again.load_state_dict(saved.tensors["model"])
    load_optimizer(resumed, saved.tensors["optimizer"], saved.state["optimizer"])
    assert resumed.param_groups[0]["lr"] == 0.0123456789
    kept = {key: tensor.clone() for key, tensor in saved.tensors["optimizer"].items()}
    train(again, resumed, 5, seed=2)
    for key, value in net.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    after, other = optimizer_tensors(optimizer)[0], optimizer_tensors(resumed)[0]
    assert after.keys() == other.keys()
    for key, value in after.items():
        assert value.dtype == other[key].dtype
        assert torch.equal(value, other[key]), key
    # Training on must not have written into the checkpoint in memory.
    assert all(torch.equal(saved.tensors["optimizer"][key], tensor) for key, tensor in kept.items())


def test_state_wider_than_its_weights_keeps_every_bit():
    weights = [torch.nn.Parameter(start((5, 8)).bfloat16()) for _ in range(2)]
    optimizer, other = (Adafactor([weight], 0.1) for weight in weights)
    run(optimizer, weights[0], [torch.randn(5, 8).bfloat16()] * 3)
    load_optimizer(other, *optimizer_tensors(optimizer))
    for name, value in optimizer.state[weights[0]].items():
        loaded = other.state[weights[1]][name]
        assert loaded == value if name == "step" else torch.equal(loaded, value)


def test_a_learning_rate_that_is_a_tensor_and_an_optimizer_not_yet_used():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.Adam([weights[0]], lr=torch.tensor(0.25))
    other = torch.optim.Adam([weights[1]], lr=torch.tensor(0.5))
    tensors, meta = optimizer_tensors(optimizer)
    assert tensors.keys() == {"group.0.lr"}
    load_optimizer(other, tensors, meta)
    assert torch.equal(other.param_groups[0]["lr"], torch.tensor(0.25))
    assert other.state == {}
    assert other.param_groups[0]["betas"] == (0.9, 0.999)


def test_how_a_step_is_computed_stays_as_the_live_optimizer_has_it():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    fused, plain = torch.optim.Adam([weights[0]], fused=True), torch.optim.Adam([weights[1]], foreach=False)
    run(fused, weights[0], [torch.ones(2)])
    load_optimizer(plain, *optimizer_tensors(fused))
    assert plain.param_groups[0]["fused"] is None
    run(plain, weights[1], [torch.ones(2)])


def test_another_optimizer_is_refused():
    net = model()
    tensors, meta = optimizer_tensors(build_optimizer("adam", net.named_parameters()))
    with pytest.raises(ValueError, match="holds the state of Adam, this run's optimizer is AdamW"):
        load_optimizer(build_optimizer("adamw", net.named_parameters()), tensors, meta)
    fewer = build_optimizer("adam", list(net.named_parameters())[:2])
    with pytest.raises(ValueError, match="other parameters or shapes"):
        load_optimizer(fewer, tensors, meta)
    renamed = [(f"x.{name}", parameter) for name, parameter in net.named_parameters()]
    with pytest.raises(ValueError, match=r"has parameter 0\.weight where this run's has x\.0\.weight"):
        load_optimizer(build_optimizer("adam", renamed), tensors, meta)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_adafactor_on_cuda_follows_the_formula_without_waiting_for_the_device():
    grads = gradients((5, 8), 20)
    parameter = torch.nn.Parameter(start((5, 8)).cuda())
    optimizer = Adafactor([parameter], 0.4, weight_decay=0.0)
    on_device = [gradient.cuda() for gradient in grads]
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours = run(optimizer, parameter, on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    right = by_formula(start((5, 8)), grads, lambda t: 0.4)
    torch.testing.assert_close(ours.cpu().double(), right, rtol=1e-4, atol=1e-5)
