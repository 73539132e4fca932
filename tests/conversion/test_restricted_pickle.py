"""The reader of pickles builds arrays and plain containers, and names whatever asks for more."""

import collections
import datetime
import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from reformer.conversion import ConversionError
from reformer.conversion.restricted_pickle import read_arrays


def read(data: bytes, tmp_path: Path):
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    return read_arrays(path)


TREE = {
    "weights": (np.arange(6, dtype=np.float32).reshape(2, 3), [np.ones((), np.float64), ()], {"a": None, 3: True}),
    "fortran": np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
    "big-endian": np.arange(3, dtype=">f4"),
    "empty": np.zeros((0, 4), np.float16),
    "step": np.int64(7),
    "history": [1.5, "text", b"bytes", 2**70],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("zipped", [False, True])
def test_reads_arrays_in_containers(protocol: int, zipped: bool, tmp_path: Path):
    data = pickle.dumps(TREE, protocol)
    found = read(gzip.compress(data) if zipped else data, tmp_path)
    np.testing.assert_equal(found, TREE)
    assert found["weights"][0].dtype == np.float32 and found["big-endian"].dtype == np.dtype(">f4")
    assert isinstance(found["weights"], tuple) and isinstance(found["weights"][1], list)


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Runs(), "posix.system|nt.system"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        (Pair(1, 2), r"\.Pair|NEWOBJ"),
        ({1, 2}, "__builtin__.set|EMPTY_SET"),
        (np.array([{}], dtype=object), "unsupported dtype 'O8'"),
        (np.array(["a"]), "unsupported dtype 'U1'"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_names_what_it_refuses(value, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for protocol in (2, 4):
        with pytest.raises(ConversionError, match=said) as caught:
            read(pickle.dumps({"weights": value}, protocol), tmp_path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.", "asks for posix.system"),
        (b"cposix\nsystem\n(S'ls'\ntR.", "asks for posix.system"),
        (b"(S'ls'\nios\nsystem\n.", "opcode INST"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "opcode BINPERSID"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x04]\x94h\x00a.", "cannot be read as a pickle of arrays"),
        (b"cnumpy\ndtype\n}S'x'\nI1\nsb.", "a global cannot be given a state"),
        (b"cnumpy\nndarray\n(tR.", "numpy.ndarray may only be named"),
        (b"cnumpy\ndtype\n.", "a global in place of a value"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(tR.", "an array without content"),
        (b"\x80\x04K\x01", "pickle exhausted before seeing STOP"),
        (b"", "pickle exhausted"),
        (b"no pickle at all", "at position"),
        (b"\x1f\x8bno gzip", "cannot be read as a pickle of arrays"),
    ],
)
def test_hostile_and_broken_pickles(data: bytes, said: str, tmp_path: Path):
    with pytest.raises(ConversionError, match=said) as caught:
        read(data, tmp_path)
    assert "\n" not in str(caught.value)


def test_an_array_of_more_than_its_bytes(tmp_path: Path):
    data = pickle.dumps(np.arange(4, dtype=np.float32), 2).replace(b"K\x04\x85", b"K\x09\x85")
    with pytest.raises(ConversionError, match="cannot reshape array of size 4"):
        read(data, tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConversionError, match="No such file"):
        read_arrays(tmp_path / "none.pkl")
