"""Our Muon beside torch's, which computes in bfloat16, and beside the singular value decomposition."""

import pytest
import torch

from reformer.training import muon
from reformer.training.muon import Muon, orthogonal

SHAPES = [(24, 24), (40, 16), (16, 40), (1, 7), (7, 1)]


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_steps_are_those_of_torch_to_the_precision_of_bfloat16(shape: tuple[int, int]):
    mine, theirs = (torch.nn.Parameter(normal(*shape, seed=0)) for _ in range(2))
    before = mine.detach().clone()
    ours = Muon([mine], 0.01, weight_decay=0.1)
    torchs = torch.optim.Muon([theirs], 0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for seed in range(6):
        mine.grad, theirs.grad = normal(*shape, seed=seed), normal(*shape, seed=seed)
        ours.step()
        torchs.step()
    moved = (theirs - before).norm()
    assert (mine - theirs).norm() < 0.03 * moved


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_directions_stay_and_singular_values_become_about_one(shape: tuple[int, int]):
    matrix = normal(*shape, seed=1).double()
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    assert found.dtype == matrix.dtype
    # In the basis of the decomposition the result is diagonal.
    diagonal = u.T @ found @ v.T
    torch.testing.assert_close(diagonal, torch.diag(diagonal.diagonal()), rtol=0, atol=1e-9)
    assert ((diagonal.diagonal() > 0.5) & (diagonal.diagonal() < 1.3)).all()


@pytest.mark.parametrize("elements", [1, 120, 2**23])
def test_each_of_several_matrices_moves_as_it_would_alone(elements: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(muon, "_STACK_ELEMENTS", elements)
    shapes = [(12, 5), (5, 12), (12, 5), (6, 6), (12, 5)]
    together, alone = ([torch.nn.Parameter(normal(*shape, seed=n)) for n, shape in enumerate(shapes)] for _ in range(2))
    one, many = Muon(together, 0.01, weight_decay=0.1), [Muon([p], 0.01, weight_decay=0.1) for p in alone]
    for step in range(3):
        for n, (a, b) in enumerate(zip(together, alone)):
            # One of them has no gradient at first, and so no momentum from before.
            a.grad, b.grad = (None if n == 2 and step == 0 else normal(*a.shape, seed=10 * step + n) for _ in range(2))
        for optimizer in (one, *many):
            optimizer.step()
    for a, b in zip(together, alone):
        torch.testing.assert_close(a, b)


def test_a_gradient_of_zeros_moves_nothing_but_the_decay():
    p = torch.nn.Parameter(torch.ones(3, 4))
    p.grad = torch.zeros(3, 4)
    Muon([p], 0.1, weight_decay=0.5).step()
    torch.testing.assert_close(p.detach(), torch.full((3, 4), 0.95))


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match="matrices, got a parameter of shape"):
        Muon([torch.nn.Parameter(torch.ones(3))], 0.1)
