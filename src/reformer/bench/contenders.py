"""Who can be measured, what is timed of each, and why one is absent. Imports no contender."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from reformer.ops.attention.dispatch import obstacle

# The part of a case that only hashing attention depends on.
HASHING = ("n_hashes", "chunk_len", "n_buckets")
LOCAL = ("chunk_len",)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
INSTALL = "not installed: pip install 'reformer-torch[bench]'"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One attention: ``timed`` says what a measurement contains; ``build`` is "module:function" in this package."""

    timed: str
    build: str
    depends_on: tuple[str, ...] = ()
    growth: float = 1.0
    """Seconds grow as length to this power, until two lengths have been timed."""
    package: str | None = None
    impl: str | None = None
    """Of ours: the implementation asked for."""
    cuda_only: bool = False


def _ours(impl: str) -> Contender:
    timed = "random rotations given; hashing, sort and attention of given qk and v"
    return Contender(timed=timed, build="ours:attention", depends_on=HASHING, impl=impl)


def _sdpa(timed: str, build: str, cuda_only: bool = False) -> Contender:
    return Contender(
        timed=f"torch's scaled_dot_product_attention, causal, {timed}", build=build, growth=2.0, cuda_only=cuda_only
    )


ATTENTION: dict[str, Contender] = {
    "reformer": _ours("auto"),
    "reformer-triton": _ours("triton"),
    "reformer-native": _ours("native"),
    "reformer-eager": _ours("eager"),
    "transformers": Contender(
        timed="its LSHSelfAttention with the projections replaced by given qk and v: rotations drawn, hashing, sort, attention",
        build="peers:transformers_attention",
        depends_on=HASHING,
        package="transformers",
    ),
    "reformer-pytorch": Contender(
        timed="its LSHAttention with its defaults, dropout 0, of given qk and v: rotations drawn, hashing, sort, attention",
        build="peers:reformer_pytorch_attention",
        depends_on=("n_hashes", "chunk_len"),
        growth=1.3,
        package="reformer_pytorch",
    ),
    "sdpa": _sdpa("of given q, k, v; torch picks the kernel", "dense:sdpa"),
    "sdpa-flash": _sdpa("FlashAttention kernel", "dense:sdpa_flash", cuda_only=True),
    "sdpa-cudnn": _sdpa("cuDNN kernel", "dense:sdpa_cudnn", cuda_only=True),
    "reformer-layer": Contender(
        timed="LSHSelfAttention layer: projections to qk and v, what `reformer` times, projection of the output",
        build="ours:layer",
        depends_on=HASHING,
        impl="auto",
    ),
    "transformers-layer": Contender(
        timed="LSHSelfAttention and ReformerSelfOutput layers: the same three projections",
        build="peers:transformers_layer",
        depends_on=HASHING,
        package="transformers",
    ),
    "reformer-pytorch-layer": Contender(
        timed="LSHSelfAttention layer: the same three projections",
        build="peers:reformer_pytorch_layer",
        depends_on=("n_hashes", "chunk_len"),
        growth=1.3,
        package="reformer_pytorch",
    ),
    "reformer-local": Contender(
        timed="local_attention of given q, k, v: own chunk and the one before, causal",
        build="ours:local",
        depends_on=LOCAL,
        impl="auto",
    ),
    "flex-local": Contender(
        timed="compiled FlexAttention under the block mask of the same local attention",
        build="dense:flex_local",
        depends_on=LOCAL,
        cuda_only=True,
    ),
}


def absence(name: str, device: str, dtype: str, width: int) -> str | None:
    """Why the contender ``name`` cannot be measured here; None if it can. Raises ValueError for an unknown one."""
    contender = ATTENTION[require_known(name, ATTENTION)]
    if contender.package is not None and find_spec(contender.package) is None:
        return f"{contender.package.replace('_', '-')} is {INSTALL}"
    if contender.cuda_only and device != "cuda":
        return "needs a CUDA device"
    if contender.impl not in (None, "auto"):
        assert contender.impl is not None
        return obstacle(contender.impl, torch.device(device), DTYPES[dtype], width)
    return None


def require_known(name: str, known: Sequence[str] | dict[str, Contender]) -> str:
    """``name``, if it is known. Raises ValueError with the nearest one if not."""
    if name in known:
        return name
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown contender {name!r}; {hint}contenders: {', '.join(known)}")


def require_dtype(name: str) -> str:
    """``name``, if it is a dtype that can be measured. Raises ValueError if not."""
    if name not in DTYPES:
        raise ValueError(f"--dtype must be of {', '.join(DTYPES)}, got {name!r}")
    return name


def pick_device(name: str) -> str:
    """ "cpu" or "cuda"; "auto" is the latter where there is one. Raises ValueError if it is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device here")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def bfloat16_obstacle(device: str) -> str | None:
    """Why bfloat16 would be emulated on ``device``; None if it has units for it (or nothing says it has not)."""
    from pathlib import Path

    if device == "cuda":
        return None if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16 units"
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return None
    return None if words & {"avx512_bf16", "amx_bf16", "bf16"} else "no bf16 units"
