"""The frozen description of a training run: everything that decides the resulting weights."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_type_hints

from reformer.models import ReformerConfig
from reformer.ops.checks import require_at_least, require_choice
from reformer.training.optim import OPTIMIZERS

OBJECTIVES = ("causal", "masked")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimizer and learning-rate schedule."""

    name: str = "adamw"
    """adafactor (the authors'), adam, adamw, or muon (for the stack's matrices, with adamw for everything else)."""
    lr: float = 1e-3
    """Peak learning rate; of "rsqrt" the constant c in c · min(t, w)/w / sqrt(max(t, w))."""
    schedule: str = "cosine"
    """rsqrt (the paper's), cosine or constant, each after a linear warm-up."""
    warmup_steps: int = 100
    final_fraction: float = 0.05
    """Of the peak learning rate, at the end of "cosine"."""
    others_lr_scale: float = 0.2
    """Of "muon": the learning rate of what is not a matrix of the stack, as a fraction of lr."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    """Largest norm of the gradient; None: not clipped."""

    def __post_init__(self) -> None:
        require_choice("optimizer.name", self.name, OPTIMIZERS)
        require_choice("optimizer.schedule", self.schedule, ("rsqrt", "cosine", "constant"))
        require_at_least("optimizer.warmup_steps", self.warmup_steps, 0)
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"optimizer.lr must be above 0, got {self.lr}")
        if not (self.others_lr_scale > 0 and math.isfinite(self.others_lr_scale)):
            raise ValueError(f"optimizer.others_lr_scale must be above 0, got {self.others_lr_scale}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"optimizer.clip_norm must be above 0 or None, got {self.clip_norm}")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer.weight_decay must be at least 0, got {self.weight_decay}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run. Same config, same machine and versions: the same bytes, also after an interruption."""

    tasks: ClassVar[tuple[str, ...]] = ("text", "duplication", "recall", "images")

    name: str
    task: str = "text"
    """text: windows of a byte corpus; duplication: the paper's synthetic task 0w0w (seq_len = 2·|w| + 2); recall:
    facts stated and asked for again, in noise or in the text of a corpus (``reformer.data.recall``), rows of 128 and more
    symbols growing to seq_len until half-time; images: square
    pictures as bytes, each one sequence (seq_len = 3·side²)."""
    data: str = "stdlib"
    """stdlib (this Python's own source text), enwik8, the path of a file or folder (.gz .xz .zst too), or - for standard input;
    of recall, these or synthetic (noise); of images, the path of a folder, a zip or tar archive of pictures, or of the
    downsampled ImageNet's files, or shapes (drawn, they need no data)."""
    objective: str = "causal"
    """causal: next byte; masked: hidden bytes, for a bidirectional model (model.causal False)."""
    seq_len: int = 4096
    """Bytes (tokens) of a training window."""
    batch_size: int = 1
    """Windows of one forward and backward pass."""
    accumulate: int = 1
    """Passes whose gradients are averaged into one step."""
    steps: int = 1000
    seed: int = 0
    autocast: str | None = None
    """bfloat16, or None for float32 throughout."""
    compile: bool = False
    """torch.compile the model (needs a C++ compiler on a CPU)."""
    device: str = "auto"
    """auto: cuda if there is one, else cpu."""
    log_every: int = 10
    eval_every: int = 200
    """Steps between evaluations on the validation split; the last step is always evaluated."""
    eval_bytes: int = 65_536
    """Validation bytes of one evaluation (duplication, recall: sequences; images: whole pictures of at most so many bytes)."""
    checkpoint_every: int = 100
    keep_last: int = 2
    """Newest checkpoints kept, beside the best one."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    model: ReformerConfig = field(default_factory=ReformerConfig)

    def __post_init__(self) -> None:
        require_choice("task", self.task, self.tasks)
        require_choice("objective", self.objective, OBJECTIVES)
        for name in (
            "seq_len", "batch_size", "accumulate", "steps", "log_every", "eval_every", "eval_bytes",
            "checkpoint_every", "keep_last",
        ):  # fmt: skip
            require_at_least(name, getattr(self, name), 1)
        require_at_least("seed", self.seed, 0)
        if self.seed >= 2**63:
            raise ValueError(f"seed must fit into 64 bits, at most {2**63 - 1}, got {self.seed}")
        if self.autocast not in (None, "bfloat16"):
            raise ValueError(f"autocast must be bfloat16 or None, got {self.autocast!r}")
        self.model.require_length(self.seq_len)
        if (self.objective == "masked") == self.model.causal:
            raise ValueError(
                f"objective {self.objective!r} needs model.causal={self.objective == 'causal'}, got {self.model.causal}"
            )
        if self.task in ("text", "images", "recall") and self.model.vocab_size != 256:
            raise ValueError(
                f"task {self.task!r} is over bytes: model.vocab_size must be 256, got {self.model.vocab_size}"
            )
        if self.task == "images":
            self._check_images()
        if self.task == "duplication":
            self._check_duplication()
        if self.task == "recall" and self.objective != "causal":
            raise ValueError("task 'recall' is causal: what is asked was stated before")

    def _check_duplication(self) -> None:
        if self.seq_len % 2 or self.seq_len < 4:
            raise ValueError(f"task 'duplication' has seq_len 2·|w| + 2, even and at least 4, got {self.seq_len}")
        if self.data != "synthetic":
            raise ValueError(f"task 'duplication' draws its own sequences: data must be 'synthetic', got {self.data!r}")
        if self.objective != "causal" or self.model.vocab_size < 2:
            raise ValueError("task 'duplication' is causal, over at least two symbols")

    def _check_images(self) -> None:
        side = self.picture_side
        if 3 * side * side != self.seq_len:
            near = [3 * s * s for s in (side, side + 1)]
            raise ValueError(
                f"task 'images' has seq_len 3·side², for example {near[0]} or {near[1]}, got {self.seq_len}"
            )
        if self.objective != "causal":
            raise ValueError("task 'images' is causal: each byte is predicted from those before it")
        axes = self.model.axial_shape
        if self.model.positions == "axial" and len(axes) == 3 and tuple(axes) != (side, side, 3):
            raise ValueError(
                f"pictures of {side} x {side} have the axes {side} {side} 3 (rows, columns, colours), got "
                f"{' '.join(map(str, axes))}; give --model.axial-shape {side} {side} 3"
            )

    @property
    def picture_side(self) -> int:
        """Of task "images": rows and columns of a picture."""
        return math.isqrt(self.seq_len // 3)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch_size * self.accumulate * self.seq_len

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, as JSON holds them."""
        return _plain(dataclasses.asdict(self))


def config_from_dict(values: dict[str, Any]) -> TrainConfig:
    """The config that ``as_dict`` of a ``TrainConfig`` gave; its task says of which class it is.

    Raises ValueError for unknown fields.
    """
    # Those configs derive from this one.
    from reformer.training.translation_config import CONFIG_OF_TASK

    cls = CONFIG_OF_TASK.get(values.get("task", "text"), TrainConfig)
    values = dict(values)
    values["optimizer"] = _build(OptimizerConfig, values.get("optimizer", {}))
    values["model"] = _build(get_type_hints(cls)["model"], values.get("model", {}))
    return _build(cls, values)


def differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    """The fields in which two ``as_dict`` results differ, as "name: a → b"."""
    found = []
    for name in sorted({*a, *b}):
        left, right = a.get(name), b.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            found += differences(left, right, f"{prefix}{name}.")
        elif left != right:
            found.append(f"{prefix}{name}: {left} → {right}")
    return found


def _build(cls: type, values: dict[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; this run was written by another version")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
