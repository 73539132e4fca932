"""Counter-based random bits: every draw is a pure function of a seed and of coordinates.

Nothing here has a state, so a recomputed forward pass, another tiling, another chunk length or another
implementation draws exactly the same bits. The mixing function is the 32-bit finaliser of MurmurHash3
(Appleby, public domain), applied once per coordinate and once per pair; all arithmetic wraps modulo 2**32 and is
done in int32, where torch, C++ and Triton agree.
"""

import torch
from torch import Tensor

_MIX_1, _MIX_2 = 0x85EBCA6B - 2**32, 0xC2B2AE35 - 2**32
_STEP, _OFFSET = 0x9E3779B1 - 2**32, 0x7F4A7C15
_COLUMN = 0x2545F491
_WORD = 2**32


def as_seed(seed: int | Tensor) -> Tensor:
    """The seed as a 0-dim int64 tensor.

    Raises TypeError for anything but an int or an integer tensor of one element, ValueError for one beyond 64 bits.
    """
    if isinstance(seed, Tensor):
        if seed.numel() != 1 or seed.is_floating_point():
            raise TypeError(
                f"a seed must be an int or an int64 tensor of one element, got {seed.dtype} {list(seed.shape)}"
            )
        return seed.reshape(()).to(torch.int64)
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"a seed must be an int or an int64 tensor of one element, got {type(seed).__name__}")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"a seed must fit into 64 bits, at most {2**63 - 1}, got {seed}")
    return torch.tensor(seed, dtype=torch.int64, device="cpu")


def derive_seed(seed: Tensor, *coordinates: int) -> Tensor:
    """A new 0-dim int64 seed for a sub-stream (a layer, a purpose): a pure function of the seed and the coordinates."""
    if _is_known(seed):
        # A model derives dozens a step, and of a single number torch's operations cost a hundred times its arithmetic.
        return torch.tensor(_derive_integer(int(seed), coordinates), dtype=torch.int64, device="cpu")
    low = high = fold(seed)
    for coordinate in coordinates:
        low = _combine(low, coordinate)
        high = _combine(high, coordinate ^ _COLUMN)
    # 63 bits: a negative seed would be refused by torch.Generator.
    return ((high.to(torch.int64) & 0x7FFFFFFF) << 32) | (low.to(torch.int64) & 0xFFFFFFFF)


def _is_known(seed: Tensor) -> bool:
    """Whether the number is there to be read: on the CPU, and neither traced nor one of a batch."""
    is_plain = type(seed) is Tensor and seed.device.type == "cpu" and seed.dim() == 0
    is_traced = torch.compiler.is_compiling() or torch._C._is_tracing()
    return is_plain and not is_traced and not torch._C._functorch.is_functorch_wrapped_tensor(seed)


def _derive_integer(seed: int, coordinates: tuple[int, ...]) -> int:
    """``derive_seed`` on integers; the keys are unsigned here."""
    low = high = _combine_integers(_mix_integer(seed % _WORD), (seed >> 32) % _WORD)
    for coordinate in coordinates:
        low = _combine_integers(low, coordinate)
        high = _combine_integers(high, coordinate ^ _COLUMN)
    return (high & 0x7FFFFFFF) << 32 | low


def row_keys(seed: Tensor, b: Tensor | int, h: Tensor | int, i: Tensor) -> Tensor:
    """int32 keys of the rows (b, h, i); the arguments broadcast."""
    return _combine(_combine(_combine(fold(seed).to(i.device), b), h), i)


def column_keys(seed: Tensor, j: Tensor) -> Tensor:
    """int32 keys of the columns j."""
    return _combine(_combine(fold(seed).to(j.device), _COLUMN), j)


def seed_keys(seed: Tensor) -> Tensor:
    """int32 [2]: what ``row_keys`` and ``column_keys`` of the seed begin with, for kernels that go on from there."""
    return torch.stack([fold(seed), _combine(fold(seed), _COLUMN)])


def keep(rows: Tensor, columns: Tensor, dropout_p: float) -> Tensor:
    """True with probability 1 - dropout_p for every (row, column); ``rows`` and ``columns`` broadcast."""
    bits = _mix(rows + columns)
    return ((bits >> 8) & 0xFFFFFF) >= drop_threshold(dropout_p)


def drop_threshold(dropout_p: float) -> int:
    """Of the 2**24 values that 24 random bits take, those below this one drop."""
    return round(dropout_p * 2**24)


def dropout(x: Tensor, dropout_p: float, seed: Tensor | None, *, first_position: int = 0) -> Tensor:
    """Inverted dropout of x [B, L, F], a pure function of (seed, b, position, feature).

    ``first_position`` is the position of x[:, 0], so that a slice drops what the whole would. Differentiable.
    """
    if dropout_p == 0.0:
        return x
    assert seed is not None
    return torch.where(feature_keep(x, dropout_p, seed, first_position), x / (1.0 - dropout_p), 0.0)


def feature_keep(x: Tensor, dropout_p: float, seed: Tensor, first_position: int) -> Tensor:
    """The bool mask [B, L, F] that ``dropout`` uses for x."""
    batch, length, features = x.shape
    b = torch.arange(batch, device=x.device, dtype=torch.int32)[:, None]
    t = torch.arange(first_position, first_position + length, device=x.device, dtype=torch.int32)[None]
    f = torch.arange(features, device=x.device, dtype=torch.int32)
    return keep(row_keys(seed, b, 0, t)[..., None], column_keys(seed, f), dropout_p)


def fold(seed: Tensor) -> Tensor:
    """The int32 key that every key of the seed's stream starts from."""
    return _combine(_mix(_to_int32(seed)), _to_int32(seed >> 32))


def _to_int32(x: Tensor) -> Tensor:
    # Wrap explicitly: a cast of an out-of-range int64 is not defined everywhere.
    return (((x + 2**31) & 0xFFFFFFFF) - 2**31).to(torch.int32)


def _combine(key: Tensor, coordinate: Tensor | int) -> Tensor:
    if isinstance(coordinate, int):
        step = (coordinate * _STEP + 2**31) % 2**32 - 2**31
        return _mix((key ^ step) + _OFFSET)
    return _mix((key ^ (coordinate.to(torch.int32) * _STEP)) + _OFFSET)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ ((x >> 16) & 0xFFFF)) * _MIX_1
    x = (x ^ ((x >> 13) & 0x7FFFF)) * _MIX_2
    return x ^ ((x >> 16) & 0xFFFF)


def _combine_integers(key: int, coordinate: int) -> int:
    return _mix_integer(((key ^ coordinate * _STEP % _WORD) + _OFFSET) % _WORD)


def _mix_integer(x: int) -> int:
    x = (x ^ x >> 16) * _MIX_1 % _WORD
    x = (x ^ x >> 13) * _MIX_2 % _WORD
    return x ^ x >> 16
