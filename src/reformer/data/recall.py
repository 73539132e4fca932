"""Associative recall: symbols stated somewhere in a sequence and asked for later, at every distance.

A fact is stated as three symbols, STATE value key, and later asked as ASK key value, where the value can be predicted by
whoever finds the statement. Between facts stands filler, which uses none of these symbols. The value comes before its key,
so that the place where a key stands can know its value, and a second layer finds that place by the key alone.
"""

import numpy as np

from reformer.data.errors import DataError
from reformer.data.randomness import NOISE, RECALL, below, random_rows

STATE, ASK = 1, 2
# Keys and values are symbols that ASCII text does not use.
_VALUES, _KEYS = 128, 192
N_KEYS = N_VALUES = 64
_SLOT = 8
_REPLACED = ord("?")


def recall_batch(filler: np.ndarray, *, seed: int, step: int, first_row: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(sequence, distance), int64 like ``filler`` [B, L], whose symbols outside ASCII, and STATE and ASK, become "?".

    ``distance[:, t]`` is how far before t the value asked for at t was stated; 0 where nothing is asked. A row of L symbols
    has min(L // 16, 64) facts, no key twice, in slots of 8 symbols drawn at random. Each row is a pure function of
    (seed, step, first_row + row) and its filler. Raises DataError for rows shorter than two slots.
    """
    rows, length = filler.shape
    n_slots = length // _SLOT
    if n_slots < 2:
        raise DataError(f"rows of {length} symbols hold no fact: expected at least {2 * _SLOT}")
    n_facts = min(n_slots // 2, N_KEYS)
    bits = random_rows(RECALL, seed, step, first_row, rows, n_slots + N_KEYS + n_facts)
    slots, keys, values = np.split(bits, [n_slots, n_slots + N_KEYS], axis=1)
    places = _SLOT * np.sort(np.argsort(slots, axis=1, kind="stable")[:, : 2 * n_facts].reshape(rows, n_facts, 2))
    keys = _KEYS + np.argsort(keys, axis=1, kind="stable")[:, :n_facts]
    values = _VALUES + below(values, N_VALUES)
    sequence = np.where((filler < 128) & (filler != STATE) & (filler != ASK), filler, _REPLACED).astype(np.int64)
    distance = np.zeros_like(sequence)
    row = np.arange(rows)[:, None]
    stated, asked = places[..., 0], places[..., 1]
    sequence[row, stated], sequence[row, stated + 1], sequence[row, stated + 2] = STATE, values, keys
    sequence[row, asked], sequence[row, asked + 1], sequence[row, asked + 2] = ASK, keys, values
    distance[row, asked + 2] = asked + 2 - (stated + 1)
    return sequence, distance


def noise_filler(rows: int, length: int, *, seed: int, step: int, first_row: int = 0) -> np.ndarray:
    """Random symbols 3..127, int64 [rows, length]; a pure function of (seed, step, first_row + row)."""
    return 3 + below(random_rows(NOISE, seed, step, first_row, rows, length), 125)
