"""Positions: axial (learned, factorised), sinusoidal and rotary."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class _Tables(nn.Module):
    """The tables of the axes, called as a module: what gathers, moves or adapts parameters does so around a call."""

    def __init__(self, tables: Iterable[nn.Parameter]) -> None:
        super().__init__()
        for index, table in enumerate(tables):
            self.register_parameter(str(index), table)
        self.reset_parameters()

    def __getitem__(self, axis: int) -> Tensor:
        """The table of an axis."""
        table: Tensor = getattr(self, str(axis))
        return table

    def __len__(self) -> int:
        """Axes."""
        return len(self._parameters)

    def forward(self, indices: Sequence[Tensor]) -> Tensor:
        """The rows at ``indices`` of each table, side by side."""
        return torch.cat([self[axis][index] for axis, index in enumerate(indices)], dim=-1)

    def reset_parameters(self) -> None:
        """Normal, with standard deviation 0.02."""
        for table in self.parameters():
            nn.init.normal_(table, std=0.02)


class AxialPositions(nn.Module):
    """Learned positions factorised over axes (released code): one small table per axis.

    Position p has the row-major coordinates of p in ``shape``; its vector is the concatenation of one vector per axis,
    of widths ``dims`` (their sum is d_model). Any length up to the product of ``shape``; one axis is a plain learned
    table.
    """

    def __init__(self, shape: Sequence[int], dims: Sequence[int]) -> None:
        super().__init__()
        if len(shape) != len(dims) or not shape or min(*shape, *dims) < 1:
            raise ValueError(f"axial shape and dims must be positive and as many, got shape={shape} and dims={dims}")
        self.shape, self.dims = tuple(shape), tuple(dims)
        self.max_len = math.prod(self.shape)
        self.tables = _Tables(
            nn.Parameter(torch.empty(size, dim, dtype=torch.get_default_dtype()))
            for size, dim in zip(self.shape, self.dims)
        )

    def forward(self, length: int, position_ids: Tensor | None = None, *, device: torch.device | None = None) -> Tensor:
        """Vectors [length, d_model], or [B, length, d_model] for ``position_ids`` [B, length].

        ``device``: of the default positions 0, 1, ..; None: the tables'.

        Raises ValueError if ``length`` is beyond the product of the shape.
        """
        if length > self.max_len:
            raise ValueError(
                f"length {length} is beyond the {self.max_len} positions of axial shape {self.shape}; "
                f"use a shorter input or a larger axial_shape"
            )
        if position_ids is None:
            device = next(self.tables.parameters()).device if device is None else device
            position_ids = torch.arange(length, dtype=torch.int64, device=device)
        indices, stride = [], self.max_len
        for size in self.shape:
            stride //= size
            indices.append(position_ids // stride % size)
        return self.tables(indices)


def sinusoidal_positions(position_ids: Tensor, d_model: int) -> Tensor:
    """Sines and cosines [*position_ids.shape, d_model] (Vaswani et al. 2017, section 3.5); any position."""
    half = (d_model + 1) // 2
    steps = torch.arange(half, dtype=torch.float32, device=position_ids.device)
    rates = torch.exp(steps * (-math.log(10_000.0) / max(half - 1, 1)))
    angles = position_ids[..., None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :d_model]


def rotate(x: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """Rotary positions (Su et al. 2021) of x [B, H, L, D], D even; ``position_ids`` [B, L], default 0..L-1.

    Rotation keeps norms, so shared-QK keys stay unit vectors.
    """
    L, D = x.shape[-2:]
    if position_ids is None:
        position_ids = torch.arange(L, dtype=torch.int64, device=x.device)[None]
    rates = torch.exp(torch.arange(0, D, 2, dtype=torch.float32, device=x.device) * (-math.log(10_000.0) / D))
    angles = position_ids[:, None, :, None].float() * rates
    sin, cos = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
    first, second = x[..., : D // 2], x[..., D // 2 :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
