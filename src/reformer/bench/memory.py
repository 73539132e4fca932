"""``reformer bench memory``: peak memory and time of one training step, each in a fresh process.

"enwik8": by depth, reversible beside ordinary autograd. "1m": the paper's model of 1,048,576 tokens. The peak is that of
the process (on a GPU: of its tensors); the activations are the peak less what the process held before the model, less
parameters, gradients and optimizer state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reformer.bench.contenders import require_dtype
from reformer.bench.model import Step, measure_steps
from reformer.bench.rows import Row, RowFile
from reformer.bench.shapes import SHAPES, with_depth

# One step is measured, however long it takes; this ends one that hangs.
_LIMIT_S = 4 * 3600.0


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """What to measure. Options given beside --preset change it."""

    preset: str = "enwik8"
    """The model: see reformer bench memory --help."""
    layers: tuple[int, ...] | None = None
    """Depths; default: the preset's (3 and 12 of enwik8)."""
    seq_len: int | None = None
    """Default: the preset's."""
    reversible: tuple[bool, ...] | None = None
    """True, False (ordinary autograd) or both; default: the preset's."""
    dtype: str = "float32"
    """float32, or autocast to another one."""
    optimizer: str = "adafactor"
    device: str = "auto"
    threads: int | None = None
    """CPU threads; default: torch's."""
    out: Path | None = None
    """Rows are appended to this file; those that it already holds for this commit and machine are not measured again."""

    def __post_init__(self) -> None:
        require_dtype(self.dtype)
        for layers in self.layers or ():
            if layers < 1:
                raise ValueError(f"--layers must be at least 1, got {layers}")


# What a preset measures unless told otherwise: depths (None: its own) and reversible.
_DEFAULTS: dict[str, tuple[tuple[int | None, ...], tuple[bool, ...]]] = {
    "enwik8": ((3, 12), (True, False)),
    "1m": ((None,), (True,)),
    "6-layers": ((None,), (True, False)),
    "toy": ((2, 4), (True, False)),
}


def measure_memory(
    options: MemoryOptions, file: RowFile, device: str, threads: int, say: Callable[[str], None]
) -> list[Row]:
    """All rows that ``options`` ask for, one process after the other."""
    config, length = SHAPES[options.preset]()
    depths, kinds = _DEFAULTS[options.preset]
    rows = []
    for reversible in options.reversible or kinds:
        for layers in options.layers or depths:
            step = Step(
                benchmark="memory",
                contender="reformer",
                model=options.preset,
                config=dataclasses.replace(with_depth(config, layers), reversible=reversible),
                batch=1,
                seq_len=options.seq_len or length,
                dtype=options.dtype,
                optimizer=options.optimizer,
                device=device,
                threads=threads,
            )
            # On a GPU the first step compiles kernels; on a CPU it is as good as the next, and may take minutes.
            warm_up = device == "cuda"
            rows += measure_steps([step], file, repeats=1, max_seconds=_LIMIT_S, say=say, warm_up=warm_up)
    return rows
