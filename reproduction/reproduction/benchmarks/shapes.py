"""The models that are measured whole, as the one config that both contenders are built from."""

import dataclasses
from collections.abc import Callable

from reformer.models import ReformerConfig
from reformer.ops import automatic_n_buckets
from reformer.tasks.text.recipes import enwik8_64k_12l


def six_layers() -> tuple[ReformerConfig, int]:
    """6 layers alternating local/LSH, d_model 256, d_ff 1024, 4 heads, 4 rounds, chunk 64, 16,384 tokens."""
    length = 16_384
    config = ReformerConfig(
        d_model=256,
        d_ff=1024,
        n_heads=4,
        attention=("local", "lsh") * 3,
        n_hashes=4,
        n_buckets=automatic_n_buckets(length, 64),
        axial_shape=(128, 128),
        axial_dims=(64, 192),
        # Local layers with keys of their own, as transformers': the same parameters.
        shared_qk=False,
    )
    return config, length


def enwik8() -> tuple[ReformerConfig, int]:
    """The paper's enwik8 model, LSH layers only, d_model reduced to 256, 65,536 tokens."""
    paper = enwik8_64k_12l()
    config = dataclasses.replace(paper.model, d_model=256, d_ff=1024, axial_dims=(64, 192))
    return config, paper.seq_len


def million() -> tuple[ReformerConfig, int]:
    """The paper's million tokens: 6 layers local/LSH, 128 × 128 buckets, 1 round, d_model 256, d_ff 512, 2 heads of 64."""
    config = ReformerConfig(
        d_model=256,
        d_ff=512,
        n_heads=2,
        d_attn=128,
        attention=("local", "lsh") * 3,
        n_hashes=1,
        n_buckets=(128, 128),
        axial_shape=(1024, 1024),
        axial_dims=(64, 192),
        ff_chunk_len=131_072,
    )
    return config, 1_048_576


def toy() -> tuple[ReformerConfig, int]:
    """Two layers, 256 tokens: whether it runs at all."""
    config = ReformerConfig(
        d_model=32,
        d_ff=64,
        n_heads=2,
        attention=("local", "lsh"),
        n_hashes=2,
        n_buckets=8,
        axial_shape=(16, 16),
        axial_dims=(8, 24),
        shared_qk=False,
    )
    return config, 256


SHAPES: dict[str, Callable[[], tuple[ReformerConfig, int]]] = {
    "6-layers": six_layers,
    "enwik8": enwik8,
    "1m": million,
    "toy": toy,
}


def with_depth(config: ReformerConfig, layers: int | None) -> ReformerConfig:
    """The config with its kinds of attention repeated to ``layers`` layers; None: as it is."""
    if layers is None:
        return config
    kinds = tuple(config.attention[index % len(config.attention)] for index in range(layers))
    return dataclasses.replace(config, attention=kinds)
