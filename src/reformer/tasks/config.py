"""What the frozen config of every run holds, and what a config can make: its model, its task, what it generates."""

from __future__ import annotations

import dataclasses
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from reformer.data import SPLITS
from reformer.models import ReformerConfig
from reformer.ops.checks import require_at_least, require_choice
from reformer.tasks.protocol import Model, Task

OPTIMIZERS = ("adafactor", "adam", "adamw", "muon")
SCHEDULES = ("rsqrt", "cosine", "constant")


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
        require_choice("optimizer.schedule", self.schedule, SCHEDULES)
        require_at_least("optimizer.warmup_steps", self.warmup_steps, 0)
        for name in ("lr", "others_lr_scale"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"optimizer.{name} must be above 0, got {getattr(self, name)}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"optimizer.clip_norm must be above 0 or None, got {self.clip_norm}")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer.weight_decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"optimizer.final_fraction must be in [0, 1], got {self.final_fraction}")


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What an evaluation measures; each task has its own, with its own unit and defaults."""

    splits: tuple[str, ...] = ("validation", "test")
    """train, validation or test."""
    limit: int = 1
    """How much of each split."""

    def __post_init__(self) -> None:
        for split in self.splits:
            if split not in SPLITS:
                raise ValueError(f"unknown split {split!r}; splits: {', '.join(SPLITS)}")
        if self.limit < 1:
            raise ValueError(f"--limit must be at least 1, got {self.limit}")


@dataclass(frozen=True, kw_only=True)
class RunConfig(ABC):
    """A whole run: everything that decides the resulting weights. Same config, same machine and versions: the same bytes.

    Each task derives its own, with its data and its counts under names that say what they are there.
    """

    task: ClassVar[str]
    """The name that config.json has for this class."""
    metric: ClassVar[str]
    """What training and validation are measured in; less is better."""
    eval_count: ClassVar[str] = "eval_bytes"
    """The field that says how much of the validation split an evaluation takes while training."""
    eval_options: ClassVar[type[EvalOptions]]
    """What ``reformer eval`` asks: given to ``Task.evaluations``."""
    generate_options: ClassVar[type[Any]]
    """What ``reformer generate`` asks, a dataclass: given to ``generate``."""

    name: str
    seq_len: int
    """Tokens of a training sequence."""
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
    checkpoint_every: int = 100
    keep_last: int = 2
    """Newest checkpoints kept, beside the best one."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    model: ReformerConfig = field(default_factory=ReformerConfig)

    def __post_init__(self) -> None:
        self.require_counts(
            "seq_len",
            "accumulate",
            "steps",
            "log_every",
            "eval_every",
            "checkpoint_every",
            "keep_last",
            self.eval_count,
        )
        require_at_least("seed", self.seed, 0)
        if self.seed >= 2**63:
            raise ValueError(f"seed must fit into 64 bits, at most {2**63 - 1}, got {self.seed}")
        if self.autocast not in (None, "bfloat16"):
            raise ValueError(f"autocast must be bfloat16 or None, got {self.autocast!r}")
        self.model.require_length(self.seq_len)

    def require_counts(self, *names: str) -> None:
        """Raise ValueError unless each of these fields is at least 1."""
        for name in names:
            require_at_least(name, getattr(self, name), 1)

    def require_causal(self, why: str) -> None:
        """Raise ValueError with the reason ``why`` unless the model is causal."""
        if not self.model.causal:
            raise ValueError(f"task {self.task!r} is causal{why}; model.causal must be True")

    @property
    @abstractmethod
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step, at most."""

    @abstractmethod
    def make_model(self) -> Model:
        """A fresh model, on the CPU."""

    @abstractmethod
    def make_task(self, cache_dir: Path, prepared: Path | None = None) -> Task:
        """The task over its data, prepared in ``cache_dir`` if need be.

        ``prepared``: the folder of an already prepared corpus (what a run recorded) in place of the one that the config names.
        Raises DataError or ValueError for data that cannot be used.
        """

    @abstractmethod
    def generate(
        self, model: Any, prompt: bytes, options: Any, cache_dir: Path, prepared: Path | None = None
    ) -> Iterator[bytes]:
        """What ``reformer generate`` writes, piece by piece; ``options`` of the class ``generate_options``.

        Raises ValueError before the first piece for a prompt or a task that cannot be continued.
        """

    def draw(
        self, model: Any, options: Any, cache_dir: Path, prepared: Path | None = None, progress: Any = None
    ) -> Any:
        """What ``reformer images`` draws; see ``reformer.tasks.images``. Raises ValueError: this task has no pictures."""
        raise ValueError(f"this run was trained on {self.task}, not on images; try reformer generate")

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, as JSON holds them, and the task's name; ``registry.config_from_dict`` reads them."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {"task": self.task} | values


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
