"""Made data: the paper's duplication task, masked-token corruption, pictures of rectangles."""

import numpy as np

from reformer.data.errors import DataError
from reformer.data.randomness import DUPLICATION, MASKING, PICTURES, below, random_rows, unit

N_SHAPES = {"train": 400, "validation": 20, "test": 20}
SHAPES_RULE = (
    "rectangles of one colour before a gradient, drawn from a fixed seed: first train, then validation, then test"
)
_RECTANGLES = 3
_MASK_SHARE, _RANDOM_SHARE = 0.8, 0.1


def duplication_batch(
    half_length: int, batch_size: int, *, seed: int, step: int, n_symbols: int = 127, first_row: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences 0w0w of the duplication task (Reformer paper, section 5), w uniform over 1..n_symbols.

    Returns ``(sequence, loss_mask)``: int64 and bool [batch_size, 2 * half_length + 2]. The mask is True on the second
    w, the only part that can be predicted: ``loss_mask[:, t]`` says whether predicting ``sequence[:, t]`` is scored.
    The paper's length of 1024 is ``half_length=511``. Each row is a pure function of (seed, step, first_row + row).
    Raises DataError for sizes below 1.
    """
    if half_length < 1:
        raise DataError(f"half_length is {half_length}: expected at least 1 symbol")
    if not 1 <= n_symbols < 1 << 32:
        raise DataError(f"n_symbols is {n_symbols}: expected at least 1 symbol besides the separator 0")
    bits = random_rows(DUPLICATION, seed, step, first_row, batch_size, half_length)
    half = np.pad(1 + below(bits, n_symbols), ((0, 0), (1, 0)))
    loss_mask = np.zeros((batch_size, 2 * half_length + 2), dtype=bool)
    loss_mask[:, half_length + 2 :] = True
    return np.concatenate([half, half], axis=1), loss_mask


def masked_batch(
    tokens: np.ndarray,
    *,
    mask_id: int,
    rate: float = 0.15,
    n_symbols: int = 256,
    seed: int,
    step: int,
    first_row: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Corrupt tokens [batch, length] the way BERT does (Devlin et al. 2019, section 3.1).

    Each position is chosen with probability ``rate``; a chosen one becomes ``mask_id`` in 80% of cases, a random symbol
    in 0..n_symbols-1 in 10%, and stays in 10%. Returns ``(inputs, loss_mask)``, int64 and bool like tokens; the mask is
    True where chosen, and in a short batch may be True nowhere. Each row's choices are a pure function of
    (seed, step, first_row + row). Raises DataError for a rate outside (0, 1] or tokens that are not integers [B, L].
    """
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
        raise DataError(f"the tokens are {tokens.dtype} {list(tokens.shape)}: expected integers [batch, length]")
    if not 0 < rate <= 1:
        raise DataError(f"rate is {rate}: expected a share above 0 and at most 1")
    if not 1 <= n_symbols < 1 << 32:
        raise DataError(f"n_symbols is {n_symbols}: expected at least 1")
    batch_size, length = tokens.shape
    bits = random_rows(MASKING, seed, step, first_row, batch_size, 3 * length)
    choice, fate, symbol = np.split(bits, 3, axis=1)
    chosen, fate = unit(choice) < rate, unit(fate)
    masked = chosen & (fate < _MASK_SHARE)
    swapped = chosen & (fate >= _MASK_SHARE) & (fate < _MASK_SHARE + _RANDOM_SHARE)
    inputs = np.where(masked, mask_id, np.where(swapped, below(symbol, n_symbols), tokens.astype(np.int64)))
    return inputs.astype(np.int64), chosen


def shape_picture(index: int, size: int) -> np.ndarray:
    """The ``index``-th picture, uint8 [size, size, 3]: rectangles before a gradient."""
    bits = random_rows(PICTURES, 0, 0, index, 1, 6 + 7 * _RECTANGLES)[0]
    corners = below(bits[:6], 256).reshape(2, 1, 1, 3)
    share = np.linspace(0.0, 1.0, size)[:, None, None]
    picture = np.broadcast_to((1 - share) * corners[0] + share * corners[1], (size, size, 3)).round().astype(np.uint8)
    for rectangle in bits[6:].reshape(_RECTANGLES, 7):
        top, left = (unit(rectangle[:2]) * size).astype(int)
        height, width = 1 + (unit(rectangle[2:4]) * size / 2).astype(int)
        picture[top : top + height, left : left + width] = below(rectangle[4:], 256)
    return picture
