"""Forecast a time series with the drop-in layer, beside two forecasts that need no training.

    python examples/time_series.py

About a minute on a laptop. The series are made up: a daily and a weekly wave, a slow drift and noise, one sample an hour,
in four channels. From two weeks the model forecasts the next two days. Needs reformer-torch alone.

`LSHSelfAttention` has the signature of reformer-pytorch's, so a model built around that one needs one changed import; the
length need not be a multiple of anything.
"""

import argparse

import torch
from torch import Tensor, nn

from reformer.compat import LSHSelfAttention
from reformer.layers import sinusoidal_positions

DAY, WEEK, CHANNELS = 24, 7 * 24, 4


class Forecaster(nn.Module):
    """An encoder over the past and, as empty places, the future, which it fills in."""

    def __init__(self, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.embed, self.read = nn.Linear(CHANNELS + 1, width), nn.Linear(width, CHANNELS)
        self.layers = nn.ModuleList(nn.ModuleDict(_block(width)) for _ in range(depth))

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """The next [B, horizon, CHANNELS] of ``past`` [B, L, CHANNELS]."""
        # Relative to the last two days, so that the level and the size of a series do not matter.
        mean, std = past[:, -2 * DAY :].mean(1, keepdim=True), past.std(1, keepdim=True) + 1e-5
        series = torch.cat([(past - mean) / std, past.new_zeros(past.shape[0], horizon, CHANNELS)], dim=1)
        is_future = (torch.arange(series.shape[1]) >= past.shape[1]).float().expand(series.shape[0], -1)
        x = self.embed(torch.cat([series, is_future[..., None]], dim=-1))
        x = x + sinusoidal_positions(torch.arange(x.shape[1]), x.shape[2])
        for layer in self.layers:
            x = x + layer["attention"](layer["norm_1"](x))
            x = x + layer["feed_forward"](layer["norm_2"](x))
        return self.read(x)[:, -horizon:] * std + mean


def _block(width: int) -> dict[str, nn.Module]:
    return {
        "norm_1": nn.LayerNorm(width),
        "attention": LSHSelfAttention(dim=width, heads=4, bucket_size=16, n_hashes=4, causal=False),
        "norm_2": nn.LayerNorm(width),
        "feed_forward": nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)),
    }


def make_series(n_series: int, length: int, seed: int) -> Tensor:
    """Series [n_series, length, CHANNELS]: waves of a day and a week, each channel's own, with drift and noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(length)[None, :, None] + torch.randint(0, WEEK, (n_series, 1, 1), generator=generator)
    size, phase = torch.rand(4, n_series, 1, CHANNELS, generator=generator).split(2)
    waves = [
        (0.5 + size[i]) * torch.sin(2 * torch.pi * (time / period + phase[i])) for i, period in enumerate((DAY, WEEK))
    ]
    noise = torch.randn(n_series, length, CHANNELS, generator=generator)
    return waves[0] + waves[1] + 0.01 * noise.cumsum(1) + 0.1 * noise


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train and compare; returns the mean squared errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    length, horizon = 2 * WEEK, 2 * DAY
    train, test = (make_series(n, 2 * length, seed) for n, seed in ((512, 1), (64, 2)))

    model = Forecaster()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=options.steps)
    for step in range(1, options.steps + 1):
        rows = torch.randint(0, len(train), (options.batch_size,))
        start = int(torch.randint(0, train.shape[1] - length - horizon + 1, ()))
        window = train[rows, start : start + length + horizon]
        loss = (model(window[:, :length], horizon) - window[:, length:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == options.steps:
            print(f"step {step}: mean squared error {loss.item():.3f}")

    past, future = test[:, :length], test[:, length : length + horizon]
    with torch.no_grad():
        forecasts = {
            "Reformer": model.eval()(past, horizon),
            "last value repeated": past[:, -1:].expand_as(future),
            "last two days repeated": past[:, -horizon:],
        }
    errors = {name: (forecast - future).square().mean().item() for name, forecast in forecasts.items()}
    print("\nmean squared error on series that it was not trained on, two days ahead:")
    for name, error in errors.items():
        print(f"  {name:<24}{error:.3f}")
    return errors


if __name__ == "__main__":
    main()
