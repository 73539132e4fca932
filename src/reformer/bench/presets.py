"""Named sets of options of ``reformer bench attention``: each a comparison that somebody asks for."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable

from reformer.bench.attention import AttentionOptions
from reformer.bench.subject import BOTH, FORWARD

_PEERS = ("transformers", "reformer-pytorch")


def op() -> AttentionOptions:
    """One length of 16,384 tokens, 8 heads of 64, 4 rounds: all implementations, peers, layers, full attention."""
    return AttentionOptions(
        contenders=(
            "reformer",
            "reformer-native",
            "reformer-eager",
            *_PEERS,
            "sdpa",
            "reformer-layer",
            "transformers-layer",
            "reformer-pytorch-layer",
        ),
        seq_len=(16_384,),
    )


def short() -> AttentionOptions:
    """1,024 tokens, 1 and 4 rounds, beside full attention: where LSH has little to win."""
    return AttentionOptions(contenders=("reformer", *_PEERS, "sdpa"), seq_len=(1024,), n_hashes=(1, 4), repeats=20)


def long() -> AttentionOptions:
    """16,384 to 262,144 tokens: does time grow in proportion? What takes over two minutes is timed once or left out."""
    return AttentionOptions(contenders=("reformer", "sdpa"), seq_len=(16_384, 65_536, 262_144), repeats=3)


def rounds() -> AttentionOptions:
    """1 to 16 rounds at 16,384 tokens, with the memory they take."""
    return AttentionOptions(contenders=("reformer", *_PEERS), seq_len=(16_384,), n_hashes=(1, 2, 4, 8, 16), repeats=3)


def million() -> AttentionOptions:
    """The paper's million: 1,048,576 tokens, 2 heads of 64, 1 round, 128 × 128 buckets."""
    return AttentionOptions(
        contenders=("reformer",),
        seq_len=(1_048_576,),
        n_heads=2,
        n_hashes=(1,),
        n_buckets=(128, 128),
        directions=(BOTH,),
        repeats=3,
        max_seconds=300.0,
    )


def figure5() -> AttentionOptions:
    """The paper's figure 5 right at twice its tokens: 65,536 a step, lengths 1,024 to 65,536; full attention, LSH-1, 2, 4, 8."""
    return AttentionOptions(
        contenders=("reformer", "sdpa"),
        seq_len=(1024, 2048, 4096, 8192, 16_384, 32_768, 65_536),
        tokens=65_536,
        n_heads=4,
        n_hashes=(1, 2, 4, 8),
        directions=(BOTH,),
        repeats=3,
        max_seconds=300.0,
        memory=False,
    )


def crossover() -> AttentionOptions:
    """From which length on LSH-1, 2, 4, 8 are faster than full attention: 256 to 16,384 tokens."""
    return AttentionOptions(
        contenders=("reformer", "sdpa"),
        seq_len=(256, 512, 1024, 2048, 4096, 8192, 16_384),
        n_hashes=(1, 2, 4, 8),
        memory=False,
    )


def gpu() -> AttentionOptions:
    """bfloat16 on a GPU: 1,024 to 1,048,576 tokens, 1 to 8 rounds, beside FlashAttention and cuDNN."""
    return AttentionOptions(
        contenders=("reformer", "sdpa", "sdpa-flash", "sdpa-cudnn"),
        seq_len=tuple(2**power for power in range(10, 21)),
        n_hashes=(1, 2, 4, 8),
        dtype=("bfloat16",),
        repeats=10,
        max_seconds=6.0,
        roofline=True,
    )


def gpu_float32() -> AttentionOptions:
    """float32 on a GPU: 1,024 to 1,048,576 tokens in steps of 4, beside torch's choice of full attention."""
    return dataclasses.replace(
        gpu(),
        contenders=("reformer", "sdpa"),
        seq_len=tuple(4**power for power in range(5, 11)),
        dtype=("float32",),
        repeats=5,
        max_seconds=5.0,
    )


def gpu_peers() -> AttentionOptions:
    """16,384 tokens, 4 rounds, beside the other Reformers, with and without projections, on a GPU."""
    return dataclasses.replace(op(), seq_len=(4096, 16_384), dtype=("bfloat16", "float32"), max_seconds=20.0)


def gpu_local() -> AttentionOptions:
    """Local attention beside FlexAttention under the same block mask, on a GPU."""
    return AttentionOptions(
        contenders=("reformer-local", "flex-local"),
        seq_len=(4096, 16_384, 65_536, 262_144),
        chunk_len=(64, 128),
        dtype=("bfloat16",),
        max_seconds=30.0,
        repeats=10,
    )


def toy() -> AttentionOptions:
    """A few hundred tokens: whether it runs at all."""
    return AttentionOptions(
        contenders=("reformer", *_PEERS, "sdpa"),
        seq_len=(128, 256),
        n_heads=2,
        head_dim=(16,),
        n_hashes=(1, 2),
        chunk_len=(32,),
        directions=(FORWARD, BOTH),
        repeats=2,
        max_seconds=20.0,
    )


ATTENTION_PRESETS: dict[str, Callable[[], AttentionOptions]] = {
    "op": op,
    "short": short,
    "long": long,
    "rounds": rounds,
    "1m": million,
    "figure5": figure5,
    "crossover": crossover,
    "gpu": gpu,
    "gpu-float32": gpu_float32,
    "gpu-peers": gpu_peers,
    "gpu-local": gpu_local,
    "toy": toy,
}


def attention_preset(name: str) -> AttentionOptions:
    """The options called ``name``. Raises ValueError listing the valid names."""
    return dataclasses.replace(find_preset(name, ATTENTION_PRESETS)(), preset=name)


def find_preset(name: str, presets: dict[str, Callable]) -> Callable:
    """``presets[name]``. Raises ValueError listing the valid names."""
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown preset {name!r}; {hint}presets: {', '.join(presets)}")
    return presets[name]
