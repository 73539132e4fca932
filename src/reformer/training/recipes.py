"""Recipes: each a function that returns one complete frozen config; variants derive from one another."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace

from reformer.models import ReformerConfig
from reformer.training.config import OptimizerConfig, TrainConfig
from reformer.training.image_recipes import IMAGE_RECIPES
from reformer.training.translation_recipes import TRANSLATION_RECIPES


def quickstart() -> TrainConfig:
    """Byte-level language model of this Python's own standard library, on a laptop CPU, in minutes."""
    return TrainConfig(
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


def enwik8_64k_3l() -> TrainConfig:
    """The paper's enwik8 model with 3 LSH layers at L = 65,536 (Adafactor 2.0 · warm-up 8000 · rsqrt): an accelerator's job."""
    return TrainConfig(
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


def enwik8_64k_12l() -> TrainConfig:
    """The paper's 12-layer enwik8 model at L = 65,536, 20K steps (paper: 1.19 bits per byte on test): an accelerator's job."""
    base = enwik8_64k_3l()
    return replace(base, name="enwik8-64k-12l", steps=20_000, model=replace(base.model, attention=("lsh",) * 12))


def duplication() -> TrainConfig:
    """The paper's synthetic task at |w| = 127 with LSH-4: second half copied, on a laptop CPU, in minutes."""
    return TrainConfig(
        name="duplication",
        task="duplication",
        data="synthetic",
        seq_len=256,
        batch_size=8,
        steps=600,
        eval_every=100,
        eval_bytes=128,
        checkpoint_every=100,
        optimizer=OptimizerConfig(name="adam", lr=1e-3, schedule="constant", warmup_steps=200),
        model=ReformerConfig(
            vocab_size=128,
            d_model=256,
            d_ff=256,
            n_heads=4,
            attention=("lsh",),
            n_hashes=4,
            positions="learned",
            max_len=256,
        ),
    )


def recall() -> TrainConfig:
    """Associative recall with local and LSH attention, facts in noise (or --data CORPUS: in text), on a laptop CPU."""
    return TrainConfig(
        name="recall",
        task="recall",
        data="synthetic",
        seq_len=1024,
        batch_size=8,
        steps=600,
        eval_every=100,
        eval_bytes=64,
        checkpoint_every=100,
        optimizer=OptimizerConfig(name="muon", lr=0.02, schedule="cosine", warmup_steps=20),
        model=ReformerConfig(
            d_model=128,
            d_ff=256,
            n_heads=2,
            attention=("local", "lsh"),
            n_hashes=4,
            positions="rotary-local",
            embedding_std=1.0,
        ),
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "quickstart": quickstart,
    "enwik8-64k-3l": enwik8_64k_3l,
    "enwik8-64k-12l": enwik8_64k_12l,
    "duplication": duplication,
    "recall": recall,
    **IMAGE_RECIPES,
    **TRANSLATION_RECIPES,
}


def recipe(name: str) -> TrainConfig:
    """The config called ``name``. Raises ValueError listing the valid names."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown recipe {name!r}; {hint}valid recipes: {', '.join(RECIPES)}")
    return RECIPES[name]()
