"""Recipes over pictures: the paper's imagenet64 models, and one for photographs on a laptop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reformer.models import ReformerConfig
from reformer.tasks.config import OptimizerConfig
from reformer.tasks.images.task import ImagesConfig


def images_small() -> ImagesConfig:
    """Photographs of 32 x 32 pixels (--data FOLDER or ZIP), on a laptop CPU: 600 steps of two, some 3.7 million bytes."""
    return ImagesConfig(
        name="images-small",
        data="imagenet64",
        seq_len=3 * 32 * 32,
        batch_size=2,
        steps=600,
        eval_every=150,
        eval_pictures=32,
        checkpoint_every=25,
        optimizer=OptimizerConfig(name="muon", lr=0.02, schedule="cosine", warmup_steps=10, weight_decay=0.01),
        model=ReformerConfig(
            d_model=192,
            d_ff=512,
            n_heads=4,
            attention=("local", "local", "lsh", "local"),
            n_hashes=2,
            # A row of bytes: the pixel above is always in sight.
            local_chunk_len=96,
            positions="rotary",
            max_len=3 * 64 * 64,
            embedding_std=1.0,
        ),
    )


def imagenet64_3l() -> ImagesConfig:
    """The paper's imagenet64 model with 3 LSH layers (Adafactor 2.0 · warm-up 8000 · rsqrt): an accelerator's job."""
    return ImagesConfig(
        name="imagenet64-3l",
        data="imagenet64",
        seq_len=3 * 64 * 64,
        batch_size=1,
        accumulate=8,
        steps=500_000,
        eval_every=5000,
        eval_pictures=64,
        checkpoint_every=1000,
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
            n_buckets=192,
            lsh_chunk_len=128,
            axial_shape=(64, 64, 3),
            axial_dims=(384, 384, 256),
            embedding_std=1.0,
        ),
    )


def imagenet64_3l_full() -> ImagesConfig:
    """imagenet64-3l with full attention, keys shared with queries: figure 4's yardstick."""
    base = imagenet64_3l()
    return replace(base, name="imagenet64-3l-full", model=replace(base.model, attention=("full",) * 3))


def _with_rounds(n_hashes: int) -> Callable[[], ImagesConfig]:
    def made() -> ImagesConfig:
        base = imagenet64_3l()
        return replace(base, name=f"imagenet64-3l-lsh{n_hashes}", model=replace(base.model, n_hashes=n_hashes))

    made.__doc__ = f"imagenet64-3l with {n_hashes} hash rounds (figure 4)."
    return made


RECIPES: dict[str, Callable[[], ImagesConfig]] = {
    "images-small": images_small,
    "imagenet64-3l": imagenet64_3l,
    "imagenet64-3l-full": imagenet64_3l_full,
    **{f"imagenet64-3l-lsh{n}": _with_rounds(n) for n in (4, 8, 16)},
}
