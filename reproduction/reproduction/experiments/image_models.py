"""The models and trainings on pictures that several experiments compare: one base for each scale, varied by line."""

from dataclasses import replace
from typing import Any

from reformer.tasks.images import ImagesConfig
from reformer.tasks.images.recipes import imagenet64_3l, images_small
from reproduction.case import Case
from reproduction.experiments.training_case import training_case

NOTES = {
    "smoke": "drawn pictures of 8 x 8, 3 steps: shows that everything runs, nothing else",
    "laptop": "5,000 photographs called photographs in the cache (docs/images.md), reduced to 16 x 16 (768 tokens), "
    "3 layers of d_model 96, chunks of 16, 1,000 steps of 4, embeddings and head at 6 times Muon's rate "
    "(chosen by full-attention models on the validation pictures); "
    "the paper: imagenet64 (12,288 tokens), d_model 1,024, chunks of 128",
    "gpu": "the photographs at 64 x 64 (12,288 tokens), 3 layers of d_model 512, chunks of 128, 3,000 steps of 4",
    "paper": "imagenet64, 3 layers of d_model 1,024, chunks of 128, 500,000 steps of 8",
}
# The official validation pictures of ImageNet, on which published figures are; no training here learns from them. (The
# laptop's learning rate was chosen on them.) What is held out as "test" is 1% of the official training pictures, and few.
_SPLIT = "validation"
# How many of them are scored.
_PICTURES = {"smoke": 10, "laptop": 256, "gpu": 1000, "paper": 50_000}
_LAYERS = 3
# Below paper: the recipe of a laptop with these changes of the run, of the optimizer and of the model.
_RUNS: dict[str, dict[str, Any]] = {
    "smoke": {"data": "shapes", "seq_len": 192, "steps": 3, "eval_pictures": 5},
    "laptop": {"data": "photographs", "seq_len": 768, "batch_size": 4, "steps": 1000, "eval_pictures": 64},
    "gpu": {"data": "photographs", "seq_len": 12_288, "batch_size": 4, "steps": 3000, "eval_pictures": 64}
    | {"checkpoint_every": 100, "autocast": "bfloat16"},
}
# Three million bytes are few: at the recipe's 0.2 embeddings and head hold the others up (1,000 steps: 6.33 bits, here 5.59).
_OPTIMIZERS: dict[str, dict[str, Any]] = {"laptop": {"others_lr_scale": 6.0}}
_MODELS: dict[str, dict[str, Any]] = {
    "smoke": {"d_model": 32, "d_ff": 32, "n_heads": 2, "lsh_chunk_len": 16, "axial_shape": (8, 8, 3)},
    # Eight rounds see at most a third of a picture.
    "laptop": {"d_model": 96, "d_ff": 256, "n_heads": 3, "lsh_chunk_len": 16}
    | {"positions": "axial", "axial_shape": (16, 16, 3)},
    "gpu": {"d_model": 512, "d_ff": 2048, "n_heads": 8, "lsh_chunk_len": 128}
    | {"positions": "axial", "axial_shape": (64, 64, 3)},
}


def image_config(scale: str, seed: int, *, kind: str, **model: Any) -> ImagesConfig:
    """The base training of ``scale`` with every layer of ``kind``; ``model`` changes the model."""
    base = imagenet64_3l()
    if scale != "paper":
        base = images_small()
        optimizer = replace(base.optimizer, **_OPTIMIZERS.get(scale, {}))
        small = replace(base.model, **_MODELS[scale])
        base = replace(base, optimizer=optimizer, model=small, **_RUNS[scale])
    changed = replace(base.model, attention=(kind,) * _LAYERS, **model)
    return replace(base, name=f"images-{scale}", seed=seed, eval_every=max(1, base.steps // 8), model=changed)


def image_case(row: str, config: ImagesConfig, scale: str, column: str) -> Case:
    """Train ``config`` and measure bits per dim of whole held-out pictures, as ``column``."""

    def measure(model: Any, task: Any) -> tuple[dict[str, float], str]:
        found = task.evaluate(model, _SPLIT, _PICTURES[scale])
        return {column: found.value}, found.protocol

    measured = {"split": _SPLIT, "bytes": _PICTURES[scale] * config.seq_len, "column": column}
    return training_case(row, config, measure, measured=measured, columns=(column,))
