"""A run small enough to repeat many times in tests."""

import dataclasses
from pathlib import Path

from reformer.models import ReformerConfig
from reformer.tasks.config import OptimizerConfig
from reformer.tasks.text import TextConfig

TINY = TextConfig(
    name="tiny",
    data="unset",
    seq_len=64,
    batch_size=2,
    accumulate=2,
    steps=12,
    eval_every=4,
    eval_bytes=256,
    checkpoint_every=2,
    log_every=1,
    optimizer=OptimizerConfig(lr=1e-2, warmup_steps=3, weight_decay=0.01),
    model=ReformerConfig(
        d_model=16,
        d_ff=32,
        n_heads=2,
        attention=("local", "lsh"),
        axial_shape=(8, 8),
        lsh_chunk_len=8,
        local_chunk_len=8,
        dropout=0.1,
        attention_dropout=0.1,
    ),
)

# The same on a command line, over the quickstart recipe.
TINY_FLAGS = [
    word
    for line in (
        "--seq-len 64 --batch-size 2 --steps 12 --eval-every 4 --eval-bytes 256 --checkpoint-every 2 --log-every 1",
        "--optimizer.warmup-steps 3 --model.d-model 16 --model.d-ff 32 --model.n-heads 2 --model.attention local lsh",
        "--model.axial-shape 8 8 --model.axial-dims 8 8 --model.lsh-chunk-len 8 --model.local-chunk-len 8",
        "--model.positions axial --model.dropout 0.1",
    )
    for word in line.split()
]


def write_text(folder: Path, n_bytes: int = 20_000) -> Path:
    """A file of patterned text, the same every time."""
    path = folder / "text.txt"
    line = "".join(f"line {i % 97} of {i % 13} words; " for i in range(n_bytes // 12))
    path.write_text(line[:n_bytes])
    return path


def tiny(folder: Path, **changes) -> TextConfig:
    """``TINY`` over the file in ``folder``."""
    path = folder / "text.txt"
    if not path.exists():
        write_text(folder)
    return dataclasses.replace(TINY, data=str(path), **changes)


def weights(directory: Path, step: int) -> bytes:
    """The model file of one checkpoint."""
    return (directory / "checkpoints" / f"step-{step:08d}" / "model.safetensors").read_bytes()
