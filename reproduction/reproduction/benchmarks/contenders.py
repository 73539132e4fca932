"""Who can be measured, what is timed of each, and why one is absent."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.attention import SDPBackend

from reformer.ops import choose_implementation
from reproduction.benchmarks import operations, peers
from reproduction.benchmarks.benchmark import DTYPES, require_installed
from reproduction.benchmarks.operations import HASHING, Operation
from reproduction.case import NotRun

_LOCAL = ("chunk_len",)
_ROUNDS = ("n_hashes", "chunk_len")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One attention: ``timed`` says what a measurement contains; ``build`` makes it of a shape and inputs."""

    timed: str
    build: Callable[..., Operation]
    depends_on: tuple[str, ...] = ()
    growth: float = 1.0
    """Seconds grow as length to this power, until two lengths have been timed."""
    package: str | None = None
    impl: str | None = None
    """Of ours: the implementation asked for."""
    cuda_only: bool = False


def _ours(impl: str) -> Contender:
    timed = "random rotations given; hashing, sort and attention of given qk and v"
    return Contender(timed=timed, build=operations.lsh, depends_on=HASHING, impl=impl)


def _sdpa(timed: str, build: Callable[..., Operation], cuda_only: bool = False) -> Contender:
    timed = f"torch's scaled_dot_product_attention, causal, {timed}"
    return Contender(timed=timed, build=build, growth=2.0, cuda_only=cuda_only)


def _transformers(timed: str, build: Callable[..., Operation]) -> Contender:
    return Contender(timed=timed, build=build, depends_on=HASHING, package="transformers")


def _reformer_pytorch(timed: str, build: Callable[..., Operation]) -> Contender:
    return Contender(timed=timed, build=build, depends_on=_ROUNDS, growth=1.3, package="reformer_pytorch")


ATTENTION: dict[str, Contender] = {
    "reformer": _ours("auto"),
    "reformer-triton": _ours("triton"),
    "reformer-native": _ours("native"),
    "reformer-eager": _ours("eager"),
    "transformers": _transformers(
        "its LSHSelfAttention with the projections replaced by given qk and v: rotations drawn, hashing, sort, attention",
        peers.transformers_attention,
    ),
    "reformer-pytorch": _reformer_pytorch(
        "its LSHAttention with its defaults, dropout 0, of given qk and v: rotations drawn, hashing, sort, attention",
        peers.reformer_pytorch_attention,
    ),
    "sdpa": _sdpa("of given q, k, v; torch picks the kernel", operations.sdpa),
    "sdpa-flash": _sdpa(
        "FlashAttention kernel", partial(operations.sdpa, backend=SDPBackend.FLASH_ATTENTION), cuda_only=True
    ),
    "sdpa-cudnn": _sdpa("cuDNN kernel", partial(operations.sdpa, backend=SDPBackend.CUDNN_ATTENTION), cuda_only=True),
    "reformer-layer": Contender(
        timed="LSHSelfAttention layer: projections to qk and v, what `reformer` times, projection of the output",
        build=operations.lsh_layer,
        depends_on=HASHING,
        impl="auto",
    ),
    "transformers-layer": _transformers(
        "LSHSelfAttention and ReformerSelfOutput layers: the same three projections", peers.transformers_layer
    ),
    "reformer-pytorch-layer": _reformer_pytorch(
        "LSHSelfAttention layer: the same three projections", peers.reformer_pytorch_layer
    ),
    "reformer-local": Contender(
        timed="local_attention of given q, k, v: own chunk and the one before, causal",
        build=operations.local,
        depends_on=_LOCAL,
        impl="auto",
    ),
    "flex-local": Contender(
        timed="compiled FlexAttention under the block mask of the same local attention",
        build=operations.flex_local,
        depends_on=_LOCAL,
        cuda_only=True,
    ),
}


def require_present(name: str, device: str, dtype: str, width: int) -> str:
    """Of ours: the implementation that will run, else "". Raises NotRun, with the reason, if it cannot be measured here."""
    contender = ATTENTION[name]
    if contender.package is not None:
        require_installed(contender.package)
    if contender.cuda_only and device != "cuda":
        raise NotRun("needs a CUDA device")
    if contender.impl is None:
        return ""
    try:
        return choose_implementation(contender.impl, torch.device(device), DTYPES[dtype], width).name
    except ValueError as reason:
        raise NotRun(str(reason)) from reason
