"""Argument checks of the ops: one line that says what was expected, what came and the nearest fix.

Only shapes, dtypes and Python numbers are looked at, so that no check ever waits for a device.
"""

from torch import Tensor

FLOAT_DTYPES = ("torch.float16", "torch.bfloat16", "torch.float32", "torch.float64")
INTEGER_DTYPES = ("torch.int8", "torch.int16", "torch.int32", "torch.int64", "torch.uint8")


def require_shape(name: str, tensor: Tensor, expected: tuple[int | None, ...], meaning: str) -> None:
    """Raise ValueError unless ``tensor`` has the expected shape (None: any size)."""
    shape = tuple(tensor.shape)
    if len(shape) != len(expected) or any(e is not None and s != e for s, e in zip(shape, expected)):
        sizes = ", ".join("any" if e is None else str(e) for e in expected)
        raise ValueError(f"{name} must be {meaning} of shape [{sizes}], got {list(shape)}")


def require_float(name: str, tensor: Tensor) -> None:
    """Raise TypeError unless ``tensor`` is a floating-point tensor."""
    if str(tensor.dtype) not in FLOAT_DTYPES:
        raise TypeError(f"{name} must be floating point (float16, bfloat16, float32 or float64), got {tensor.dtype}")


def require_integer(name: str, tensor: Tensor) -> None:
    """Raise TypeError unless ``tensor`` holds integers."""
    if str(tensor.dtype) not in INTEGER_DTYPES:
        raise TypeError(f"{name} must hold integers (int32 or int64), got {tensor.dtype}; convert it with .long()")


def require_same(name_a: str, a: Tensor, name_b: str, b: Tensor) -> None:
    """Raise unless both tensors share dtype and device."""
    if a.dtype != b.dtype:
        raise TypeError(f"{name_a} and {name_b} must have one dtype, got {a.dtype} and {b.dtype}; convert one of them")
    require_same_device(name_a, a, name_b, b)


def require_same_device(name_a: str, a: Tensor, name_b: str, b: Tensor) -> None:
    """Raise ValueError unless both tensors are on one device."""
    if a.device != b.device:
        raise ValueError(
            f"{name_a} and {name_b} must be on one device, got {a.device} and {b.device}; move one of them"
        )


def require_at_least(name: str, value: int, minimum: int) -> None:
    """Raise TypeError unless ``value`` is an int, ValueError if it is below ``minimum``."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def require_dropout(dropout_p: float, dropout_seed: object) -> None:
    """Raise ValueError unless the dropout probability is in [0, 1) and comes with a seed when above 0."""
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"dropout_p must be in [0, 1), got {dropout_p}")
    if dropout_p > 0.0 and dropout_seed is None:
        raise ValueError(
            f"dropout_p={dropout_p} needs dropout_seed (an int): ops draw no hidden random numbers; "
            "pass dropout_seed=..., or dropout_p=0.0 in evaluation"
        )
