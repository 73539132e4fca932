"""Recipes over text: the quickstart of a laptop, and the paper's enwik8 models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reformer.models import ReformerConfig
from reformer.tasks.config import OptimizerConfig
from reformer.tasks.text.task import TextConfig


def quickstart() -> TextConfig:
    """Byte-level language model of this Python's own standard library, on a laptop CPU, in minutes."""
    return TextConfig(
        name="quickstart",
        seq_len=16_384,
        batch_size=1,
        steps=140,
        eval_every=70,
        checkpoint_every=10,
        optimizer=OptimizerConfig(name="muon", lr=0.02, schedule="cosine", warmup_steps=5, weight_decay=0.01),
        model=ReformerConfig(
            d_model=192,
            d_ff=512,
            n_heads=4,
            attention=("local", "local", "lsh", "local"),
            n_hashes=2,
            # In three seeds on enwik8 never worse than "paper" (experiment `patterns`), in as much time, and strictly causal.
            pattern="bucket",
            lsh_window=64,
            positions="rotary-local",
            embedding_std=1.0,
        ),
    )


def enwik8_64k_3l() -> TextConfig:
    """The paper's enwik8 model with 3 LSH layers at L = 65,536 (Adafactor 2.0 · warm-up 8000 · rsqrt): an accelerator's job."""
    return TextConfig(
        name="enwik8-64k-3l",
        data="enwik8",
        seq_len=65_536,
        batch_size=1,
        accumulate=8,
        steps=60_000,
        eval_every=1000,
        eval_bytes=1_048_576,
        checkpoint_every=200,
        keep_last=3,
        autocast="bfloat16",
        optimizer=OptimizerConfig(
            name="adafactor", lr=2.0, schedule="rsqrt", warmup_steps=8000, weight_decay=1e-5, clip_norm=None
        ),
        model=ReformerConfig(
            d_model=1024,
            d_ff=4096,
            n_heads=8,
            d_attn=512,
            attention=("lsh",) * 3,
            n_hashes=2,
            n_buckets=(32, 32),
            lsh_chunk_len=128,
            axial_shape=(128, 512),
            axial_dims=(256, 768),
            embedding_std=1.0,
            dropout=0.1,
            ff_chunk_len=8192,
        ),
    )


def enwik8_64k_12l() -> TextConfig:
    """The paper's 12-layer enwik8 model at L = 65,536, 20K steps (paper: 1.19 bits per byte on test): an accelerator's job."""
    base = enwik8_64k_3l()
    return replace(base, name="enwik8-64k-12l", steps=20_000, model=replace(base.model, attention=("lsh",) * 12))


RECIPES: dict[str, Callable[[], TextConfig]] = {
    "quickstart": quickstart,
    "enwik8-64k-3l": enwik8_64k_3l,
    "enwik8-64k-12l": enwik8_64k_12l,
}
