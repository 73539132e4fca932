"""The models and trainings on enwik8 that several experiments compare: one base for each scale, varied by line."""

from dataclasses import replace
from typing import Any

from reformer.evaluation.variants import attention_variant
from reformer.tasks.text import TextConfig
from reformer.tasks.text.recipes import enwik8_64k_12l, quickstart
from reproduction.case import Case
from reproduction.experiments.training_case import training_case

NOTES = {
    "smoke": "standard library, windows of 256 bytes, 3 steps: shows that everything runs, nothing else",
    "laptop": "enwik8, 4 layers of d_model 192 and windows of 8,192 bytes for 240 steps (2.0 MB), where the paper trains "
    "12 layers of d_model 1,024 with windows of 65,536 for 20,000 steps of 8",
    "gpu": "enwik8, 6 layers of d_model 512, windows of 16,384 bytes, 350 steps of 4 (23 MB)",
    "paper": "the paper's 12 layers of d_model 1,024, windows of 65,536 bytes, 20,000 steps of 8; two of three layers local, "
    "where the paper's are all LSH",
}
# What is measured, as the experiments that compare texts have it.
BITS: dict[str, Any] = {"metric": "bits per byte on enwik8's test split", "better": "lower", "digits": 3}
BITS_BY_STEP = BITS | {"columns": ("test",), "curve": ("step", "validation bits per byte")}
# The LSH layers are those that an experiment may make another kind.
LAYERS = {
    "smoke": ("local", "lsh"),
    "laptop": ("local", "local", "lsh", "local"),
    "gpu": ("local", "local", "lsh") * 2,
    "paper": ("local", "local", "lsh") * 4,
}
TEST_BYTES = {"smoke": 1024, "laptop": 262_144, "gpu": 1_048_576, "paper": 5_000_000}
# Below paper: the quickstart with these changes of the run and of the model.
_RUNS: dict[str, dict[str, Any]] = {
    "smoke": {"seq_len": 256, "steps": 3, "eval_bytes": 512},
    "laptop": {"data": "enwik8", "seq_len": 8192, "steps": 240, "eval_bytes": 65_536},
    "gpu": {"data": "enwik8", "seq_len": 16_384, "batch_size": 4, "steps": 350, "eval_bytes": 262_144}
    | {"checkpoint_every": 200, "autocast": "bfloat16"},
}
_MODELS: dict[str, dict[str, Any]] = {
    "smoke": {"d_model": 32, "d_ff": 32, "n_heads": 2, "lsh_chunk_len": 16, "local_chunk_len": 16},
    "gpu": {"d_model": 512, "d_ff": 2048, "n_heads": 8, "n_hashes": 4},
}


def text_config(scale: str, seed: int, *, kind: str = "lsh", steps: float = 1.0, **model: Any) -> TextConfig:
    """The base training of ``scale`` with its LSH layers made ``kind``; ``steps`` is a factor, ``model`` changes the model."""
    base = enwik8_64k_12l()
    if scale != "paper":
        base = replace(quickstart(), **_RUNS[scale])
        # The paper's own pattern: that is what is reproduced here.
        model = {"pattern": "paper", "lsh_window": None} | _MODELS.get(scale, {}) | model
    attention = tuple(kind if layer == "lsh" else layer for layer in LAYERS[scale])
    total = max(1, round(base.steps * steps))
    return replace(
        base,
        name=f"text-{scale}",
        seed=seed,
        steps=total,
        eval_every=max(1, total // 8),
        model=replace(base.model, attention=attention, **model),
    )


def text_case(row: str, config: TextConfig, scale: str, column: str = "test") -> Case:
    """Train ``config`` and measure bits per byte on the test split, as ``column``."""

    def measure(model: Any, task: Any) -> tuple[dict[str, float], str]:
        value, protocol = held_out_bits(scale, model, task)
        return {column: value}, protocol

    return training_case(row, config, measure, measured={"test bytes": TEST_BYTES[scale]}, columns=(column,))


def held_out_bits(scale: str, model: Any, task: Any, attention: str = "as-trained") -> tuple[float, str]:
    """(bits per byte, protocol) on the start of the test split, disjoint windows, no carried context."""
    found = task.evaluate(attention_variant(model, attention), "test", TEST_BYTES[scale])
    return found.value, found.protocol
