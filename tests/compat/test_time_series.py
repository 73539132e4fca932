"""A forecaster built as the Time-Series-Library builds its Reformer runs with one changed import."""

import pytest
import reformer_pytorch
import torch
from torch import nn

from reformer import compat


class Forecaster(nn.Module):
    """Embedding, encoder blocks around the layer, projection; places to forecast are given as zeros."""

    def __init__(self, layer_class, *, fit_length, bucket_size=4, n_hashes=4):
        super().__init__()
        self.multiple = 2 * bucket_size if fit_length else 1
        self.embed, self.project = nn.Linear(3, 16), nn.Linear(16, 3)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.layers = nn.ModuleList(
            layer_class(dim=16, heads=2, bucket_size=bucket_size, n_hashes=n_hashes, causal=False) for _ in range(2)
        )

    def forward(self, series, horizon):
        x = self.embed(nn.functional.pad(series, (0, 0, 0, horizon)))
        length = x.shape[1]
        for norm, layer in zip(self.norms, self.layers):
            padded = nn.functional.pad(x, (0, 0, 0, -length % self.multiple))
            x = norm(x + layer(padded)[:, :length, :])
        return self.project(x)[:, -horizon:, :]


def train(model, steps=30):
    time = torch.arange(61)[None, :, None] + torch.arange(8)[:, None, None]
    waves = (time / torch.tensor([3.0, 5.0, 8.0])).sin()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = (model(waves[:, :50], 11) - waves[:, 50:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("layer_class", [reformer_pytorch.LSHSelfAttention, compat.LSHSelfAttention])
def test_it_trains_with_lengths_filled_up_as_there(layer_class):
    torch.manual_seed(0)
    losses = train(Forecaster(layer_class, fit_length=True))
    assert losses[-1] < 0.5 * losses[0]


def test_no_filling_up_is_needed_here():
    torch.manual_seed(0)
    losses = train(Forecaster(compat.LSHSelfAttention, fit_length=False))
    assert losses[-1] < 0.5 * losses[0]
    with pytest.raises(AssertionError, match="needs to be divisible"):
        train(Forecaster(reformer_pytorch.LSHSelfAttention, fit_length=False))


def test_weights_of_one_run_in_the_other():
    theirs = Forecaster(reformer_pytorch.LSHSelfAttention, fit_length=True)
    Forecaster(compat.LSHSelfAttention, fit_length=False).load_state_dict(theirs.state_dict())
