"""Named sets of options of ``reformer bench attention``: each a comparison that somebody asks for."""

import dataclasses

from reproduction.benchmarks.attention import BOTH, AttentionOptions
from reproduction.benchmarks.benchmark import require_name

_PEERS = ("transformers", "reformer-pytorch")
_LAYERS = ("reformer-layer", "transformers-layer", "reformer-pytorch-layer")
_ROUNDS = (1, 2, 4, 8)


def _lengths(first: int, last: int, step: int = 1) -> tuple[int, ...]:
    """Powers of two."""
    return tuple(2**power for power in range(first, last + 1, step))


_OP = AttentionOptions(
    contenders=("reformer", "reformer-native", "reformer-eager", *_PEERS, "sdpa", *_LAYERS),
    seq_len=(16_384,),
)
_GPU = AttentionOptions(
    contenders=("reformer", "sdpa", "sdpa-flash", "sdpa-cudnn"),
    seq_len=_lengths(10, 20),
    n_hashes=_ROUNDS,
    dtype=("bfloat16",),
    repeats=10,
    max_seconds=6.0,
    roofline=True,
)

# What each is, and its options.
ATTENTION_PRESETS: dict[str, tuple[str, AttentionOptions]] = {
    "op": (
        "One length of 16,384 tokens, 8 heads of 64, 4 rounds: all implementations, peers, layers, full attention.",
        _OP,
    ),
    "short": (
        "1,024 tokens, 1 and 4 rounds, beside full attention: where LSH has little to win.",
        AttentionOptions(contenders=("reformer", *_PEERS, "sdpa"), seq_len=(1024,), n_hashes=(1, 4), repeats=20),
    ),
    "long": (
        "16,384 to 262,144 tokens: does time grow in proportion? What takes over two minutes is timed once or left out.",
        AttentionOptions(contenders=("reformer", "sdpa"), seq_len=(16_384, 65_536, 262_144), repeats=3),
    ),
    "rounds": (
        "1 to 16 rounds at 16,384 tokens, with the memory they take.",
        AttentionOptions(contenders=("reformer", *_PEERS), seq_len=(16_384,), n_hashes=(*_ROUNDS, 16), repeats=3),
    ),
    "1m": (
        "The paper's million: 1,048,576 tokens, 2 heads of 64, 1 round, 128 × 128 buckets.",
        AttentionOptions(
            contenders=("reformer",),
            seq_len=(1_048_576,),
            n_heads=2,
            n_hashes=(1,),
            n_buckets=(128, 128),
            directions=(BOTH,),
            repeats=3,
            max_seconds=300.0,
        ),
    ),
    "figure5": (
        "The paper's figure 5 right at twice its tokens: 65,536 a step, lengths 1,024 to 65,536; full attention, LSH-1, 2, 4, 8.",
        AttentionOptions(
            contenders=("reformer", "sdpa"),
            seq_len=_lengths(10, 16),
            tokens=65_536,
            n_heads=4,
            n_hashes=_ROUNDS,
            directions=(BOTH,),
            repeats=3,
            max_seconds=300.0,
            memory=False,
        ),
    ),
    "crossover": (
        "From which length on LSH-1, 2, 4, 8 are faster than full attention: 256 to 16,384 tokens.",
        AttentionOptions(
            contenders=("reformer", "sdpa"),
            seq_len=_lengths(8, 14),
            n_hashes=_ROUNDS,
            memory=False,
        ),
    ),
    "gpu": ("bfloat16 on a GPU: 1,024 to 1,048,576 tokens, 1 to 8 rounds, beside FlashAttention and cuDNN.", _GPU),
    "gpu-float32": (
        "float32 on a GPU: 1,024 to 1,048,576 tokens in steps of 4, beside torch's choice of full attention.",
        dataclasses.replace(
            _GPU,
            contenders=("reformer", "sdpa"),
            seq_len=_lengths(10, 20, step=2),
            dtype=("float32",),
            repeats=5,
            max_seconds=5.0,
        ),
    ),
    "gpu-peers": (
        "16,384 tokens, 4 rounds, beside the other Reformers, with and without projections, on a GPU.",
        dataclasses.replace(_OP, seq_len=(4096, 16_384), dtype=("bfloat16", "float32"), max_seconds=20.0),
    ),
    "gpu-local": (
        "Local attention beside FlexAttention under the same block mask, on a GPU.",
        AttentionOptions(
            contenders=("reformer-local", "flex-local"),
            seq_len=(4096, 16_384, 65_536, 262_144),
            chunk_len=(64, 128),
            dtype=("bfloat16",),
            max_seconds=30.0,
            repeats=10,
        ),
    ),
    "toy": (
        "A few hundred tokens: whether it runs at all.",
        AttentionOptions(
            contenders=("reformer", *_PEERS, "sdpa"),
            seq_len=(128, 256),
            n_heads=2,
            head_dim=(16,),
            n_hashes=(1, 2),
            chunk_len=(32,),
            repeats=2,
            max_seconds=20.0,
        ),
    ),
}


def attention_preset(name: str) -> AttentionOptions:
    """The options called ``name``. Raises ValueError listing the valid names."""
    require_name("preset", name, ATTENTION_PRESETS)
    return dataclasses.replace(ATTENTION_PRESETS[name][1], preset=name)
