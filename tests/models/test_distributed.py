"""DistributedDataParallel and FSDP2 with default settings, two processes: the gradients of one process (invariant 3)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from reformer.models import ReformerLM

from .factory import assert_same, some_tokens, tiny

WORLD = 2
# Dropout would differ: its masks are those of the row in its own batch. So would seeds drawn by each process.
OPTIONS = {"attention": ("local", "lsh", "full")}


def batch() -> Tensor:
    return some_tokens(batch=4)


def loss_of(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(tokens, targets=tokens.roll(-1, 1), seed=3)


def of_one_process(frozen: str | None, steps: int) -> dict[str, Tensor | None]:
    model = model_with_frozen(frozen)
    for _ in range(steps):
        loss_of(model, batch()).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def model_with_frozen(frozen: str | None) -> ReformerLM:
    model = tiny(**OPTIONS)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(frozen is None or frozen not in name)
    return model


def data_parallel(tokens: Tensor, frozen: str | None, steps: int) -> dict[str, Tensor | None]:
    model = DistributedDataParallel(model_with_frozen(frozen))
    for _ in range(steps):
        loss_of(model, tokens).backward()
    return {name: p.grad for name, p in model.module.named_parameters()}


def fully_sharded(tokens: Tensor, frozen: str | None, steps: int) -> dict[str, Tensor | None]:
    model = model_with_frozen(frozen)
    fully_shard(model, mesh=init_device_mesh("cpu", (WORLD,)))
    return sharded_gradients(model, tokens, steps)


def sharded_by(choose: Callable[[ReformerLM], list[nn.Module]], root: bool) -> Callable:
    return partial(_sharded_by, choose, root)


def _sharded_by(choose: Callable, root: bool, tokens: Tensor, frozen: str | None, steps: int) -> dict:
    model, mesh = model_with_frozen(frozen), init_device_mesh("cpu", (WORLD,))
    for module in choose(model):
        fully_shard(module, mesh=mesh)
    if root:
        fully_shard(model, mesh=mesh)
    gradients = sharded_gradients(model, tokens, steps)
    # What is not sharded is averaged by whoever trains it; here, to compare.
    for name, p in model.named_parameters():
        if p.grad is not None and not isinstance(p, DTensor):
            dist.all_reduce(gradients[name])
            gradients[name] /= WORLD
    return gradients


def every_layer(model: ReformerLM) -> list[nn.Module]:
    return list(model.stack.layers)


def every_branch(model: ReformerLM) -> list[nn.Module]:
    return [branch for layer in model.stack.layers for branch in layer.branches()]


def every_linear(model: ReformerLM) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def sharded_gradients(model: nn.Module, tokens: Tensor, steps: int) -> dict[str, Tensor | None]:
    for _ in range(steps):
        loss_of(model, tokens).backward()
    return {name: None if p.grad is None else _whole(p.grad) for name, p in model.named_parameters()}


def _whole(x: Tensor) -> Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    try:
        for name, (run, frozen, steps) in CASES.items():
            gradients = run(batch().chunk(WORLD)[rank], frozen, steps)
            if rank == 0:
                save_file({n: g for n, g in gradients.items() if g is not None}, Path(folder, f"{name}.safetensors"))
    finally:
        dist.destroy_process_group()


CASES = {
    "ddp": (data_parallel, None, 2),
    "ddp, frozen embedding": (data_parallel, "embedding", 1),
    "whole": (fully_sharded, None, 2),
    "layers and root": (sharded_by(every_layer, True), None, 2),
    "branches and root": (sharded_by(every_branch, True), None, 2),
    "linears and root": (sharded_by(every_linear, True), None, 2),
    "layers": (sharded_by(every_layer, False), None, 2),
    "branches": (sharded_by(every_branch, False), None, 2),
    "linears": (sharded_by(every_linear, False), None, 1),
    "branches, frozen embedding": (sharded_by(every_branch, False), "embedding", 1),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes found, in one start of them."""
    made = tmp_path_factory.mktemp("distributed")
    torch.multiprocessing.spawn(worker, args=(str(made),), nprocs=WORLD)
    return made


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_gradients_of_one(name: str, folder: Path):
    _, frozen, steps = CASES[name]
    expected = of_one_process(frozen, steps)
    found = load_file(folder / f"{name}.safetensors")
    assert_same({n: found.get(n) for n in expected}, expected)
