"""A reader of pickles that constructs nothing but arrays: numbers, text and bytes in tuples, lists and dicts.

A pickle is a program. Here its opcodes are looked at before any runs; a global is never imported, its name only picks one
of the few functions below; and an array comes from bytes by ``numpy.frombuffer``, not by numpy's own unpickling.
"""

import gzip
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from reformer.conversion.converted import ConversionError

_ALLOWED = """
    PROTO FRAME STOP MARK POP POP_MARK DUP MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS
    GLOBAL STACK_GLOBAL REDUCE BUILD
"""
_OPCODES = frozenset(_ALLOWED.split())
_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
_GZIP = b"\x1f\x8b"


def read_arrays(path: Path) -> Any:
    """The content of a pickle, possibly gzipped: arrays, numbers and text in tuples, lists and dicts.

    Raises ConversionError naming the first opcode or global that would construct anything else.
    """
    path = Path(path)
    try:
        with _open(path) as stream:
            _check_opcodes(stream, path)
        with _open(path) as stream:
            return _settled(_Reader(stream, path).load())
    except ConversionError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ConversionError(f"{path} cannot be read as a pickle of arrays: {text}") from error


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        is_gzip = file.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path, "rb")) if is_gzip else path.open("rb")


def _check_opcodes(stream: IO[bytes], path: Path) -> None:
    for opcode, argument, position in pickletools.genops(stream):
        if opcode.name not in _OPCODES:
            raise ConversionError(
                f"{path} is refused: unsupported pickle opcode {opcode.name} at byte {position}; only arrays, numbers and "
                f"text in tuples, lists and dicts are read"
            )
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            _constructor(module, name, path)


class _Reader(pickle.Unpickler):
    """Knows no global but ours."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__(stream, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        return _constructor(module, name, self._path)


class _Constructor:
    """A global's stand-in: it can be called, and nothing else can be done to it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a global cannot be given a state")


class _Dtype:
    """numpy.dtype, of plain numbers only."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "=", "|"):
            raise ValueError(f"unsupported byte order {state[1]!r}")
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """numpy.ndarray, before (None) and after its state has come."""

    def __init__(self) -> None:
        self.value: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, is_fortran, data = state[-4:]
        self.value = _array(data, dtype, shape, "F" if is_fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray | str):
        raise ValueError(f"expected an array of plain numbers, got {type(data).__name__} as its data")
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, dtype.numpy()).reshape(shape, order="F" if order == "F" else "C")


def _make_dtype(code: str, *_: Any) -> _Dtype:
    if code not in _DTYPES:
        raise ValueError(f"unsupported dtype {code!r}: expected one of {', '.join(_DTYPES)}")
    return _Dtype(code)


def _make_scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (), "C").item()


def _encode(text: str, encoding: str) -> bytes:
    # How pickles of protocol 2 spell bytes.
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"unsupported encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    # And how they spell none.
    return b""


def _not_callable(*_: Any) -> None:
    raise ValueError("numpy.ndarray may only be named")


_CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _not_callable,
    ("numpy", "dtype"): _make_dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):
    _CONSTRUCTORS[f"{_core}.multiarray", "_reconstruct"] = lambda *_: _Array()
    _CONSTRUCTORS[f"{_core}.multiarray", "scalar"] = _make_scalar
    _CONSTRUCTORS[f"{_core}.numeric", "_frombuffer"] = _array


def _constructor(module: str, name: str, path: Path) -> _Constructor:
    function = _CONSTRUCTORS.get((module, name))
    if function is None:
        raise ConversionError(
            f"{path} is refused: it asks for {module}.{name}, and nothing but numpy arrays is constructed; save its "
            f"weights alone, as arrays in tuples, lists and dicts"
        )
    return _Constructor(function)


def _settled(value: Any) -> Any:
    """The same tree with arrays in place of their stand-ins."""
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    if isinstance(value, dict):
        return {_settled(key): _settled(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_settled, value))
    if isinstance(value, _Constructor | _Dtype):
        raise ValueError("a global in place of a value")
    return value
