"""Recipes that translate: the paper's Table 4, and the same at the size of a laptop.

Each needs ``--data``: a file of two columns, or a folder with train.en, train.de, validation.en, .. (docs/translation.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from reformer.models import EncoderDecoderConfig, ReformerConfig
from reformer.tasks.config import OptimizerConfig
from reformer.tasks.translation.task import PackedTranslationConfig, TranslationConfig


def wmt14_base_reversible() -> TranslationConfig:
    """The paper's reversible base model on WMT14 English-German, 100K steps (paper: 27.6 BLEU): an accelerator's job."""
    return TranslationConfig(
        name="wmt14-base-reversible",
        data="wmt14",
        seq_len=256,
        batch_tokens=4096,
        accumulate=6,
        steps=100_000,
        eval_every=2000,
        eval_bytes=1_000_000,
        checkpoint_every=1000,
        keep_last=5,
        autocast="bfloat16",
        # Vaswani et al., section 5.3: d_model^-0.5 · min(t^-0.5, t · w^-1.5).
        optimizer=OptimizerConfig(
            name="adam", lr=512**-0.5, schedule="rsqrt", warmup_steps=4000, betas=(0.9, 0.98), clip_norm=None
        ),
        model=EncoderDecoderConfig(
            vocab_size=32_768,
            d_model=512,
            d_ff=2048,
            n_heads=8,
            encoder_attention=("full",) * 6,
            attention=("full",) * 6,
            shared_qk=False,
            positions="sinusoidal",
            embedding_std=512**-0.5,
            tie_embeddings=True,
            dropout=0.1,
            attention_dropout=0.1,
        ),
    )


def wmt14_base_reversible_500k() -> TranslationConfig:
    """The same for 500K steps without weight sharing (paper: 28.0 BLEU)."""
    base = wmt14_base_reversible()
    model = replace(base.model, tie_embeddings=False, source_vocab_size=base.model.vocab_size, embedding_std=1.0)
    return replace(base, name="wmt14-base-reversible-500k", steps=500_000, model=model)


def wmt14_big_reversible() -> TranslationConfig:
    """The paper's reversible big model, 300K steps without weight sharing (paper: 29.1 BLEU)."""
    base = wmt14_base_reversible_500k()
    model = replace(base.model, d_model=1024, d_ff=4096, n_heads=16, dropout=0.3)
    optimizer = replace(base.optimizer, lr=1024**-0.5)
    return replace(base, name="wmt14-big-reversible", steps=300_000, optimizer=optimizer, model=model)


def translation_small() -> TranslationConfig:
    """Reversible encoder-decoder, full attention, for 200,000 pairs (--data FOLDER), on a laptop CPU, in half an hour."""
    base = wmt14_base_reversible()
    return replace(
        base,
        name="translation-small",
        data="pairs",
        seq_len=64,
        batch_tokens=2048,
        accumulate=1,
        steps=1500,
        eval_every=500,
        eval_bytes=50_000,
        checkpoint_every=200,
        autocast=None,
        optimizer=replace(base.optimizer, lr=2e-3, schedule="cosine", warmup_steps=150, clip_norm=1.0),
        model=replace(
            base.model,
            vocab_size=4096,
            d_model=128,
            d_ff=512,
            n_heads=4,
            encoder_attention=("full",) * 3,
            attention=("full",) * 3,
            embedding_std=128**-0.5,
            attention_dropout=0.0,
        ),
    )


def translation_small_ordinary() -> TranslationConfig:
    """translation-small as an ordinary Transformer, x + f(x) in one stream: as many parameters."""
    base = translation_small()
    return replace(base, name="translation-small-ordinary", model=replace(base.model, reversible=False, streams=1))


def translation_overfit() -> TranslationConfig:
    """translation-small learns its first 1,000 pairs by heart, in minutes: BLEU above 90 on them, or something is wrong."""
    base = translation_small()
    return replace(
        base,
        name="translation-overfit",
        train_pairs=1000,
        label_smoothing=0.0,
        steps=600,
        eval_every=300,
        optimizer=replace(base.optimizer, warmup_steps=50),
        model=replace(base.model, dropout=0.0),
    )


def translation_packed() -> PackedTranslationConfig:
    """Source and target in one causal sequence, read by LSH attention, at the size of translation-small."""
    base = translation_small()
    shared = {f.name: getattr(base, f.name) for f in fields(base) if f.name not in ("name", "model")}
    return PackedTranslationConfig(
        **shared,
        name="translation-packed",
        model=ReformerConfig(
            vocab_size=base.model.vocab_size,
            d_model=base.model.d_model,
            d_ff=base.model.d_ff,
            n_heads=base.model.n_heads,
            attention=("local", "lsh") * 3,
            # Strictly causal, so that decoding token by token sees what training saw.
            pattern="bucket",
            n_hashes=4,
            n_buckets=8,
            lsh_chunk_len=32,
            local_chunk_len=32,
            positions="rotary",
            max_len=512,
            embedding_std=1.0,
            dropout=base.model.dropout,
        ),
    )


RECIPES: dict[str, Callable[[], TranslationConfig]] = {
    "wmt14-base-reversible": wmt14_base_reversible,
    "wmt14-base-reversible-500k": wmt14_base_reversible_500k,
    "wmt14-big-reversible": wmt14_big_reversible,
    "translation-small": translation_small,
    "translation-small-ordinary": translation_small_ordinary,
    "translation-overfit": translation_overfit,
    "translation-packed": translation_packed,
}
