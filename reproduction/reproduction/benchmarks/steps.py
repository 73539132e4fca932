"""``reformer bench model`` and ``memory``: whole training steps.

"model": ours beside transformers' of the same sizes. Each model lives in a process of its own and keeps its weights; the
processes take turns, one step each. "memory": peak memory and time of one step, each in a fresh process; "enwik8" by depth,
reversible beside ordinary autograd, "1m" the paper's model of 1,048,576 tokens. The peak is that of the process (on a GPU: of
its tensors) from before the model was built; the activations are the peak less what the process held before the model, less
parameters, gradients and optimizer state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass

import torch

from reformer.models import ReformerConfig
from reformer.training.environment import chosen_device
from reproduction.benchmarks.benchmark import (
    Bench,
    Options,
    require_bfloat16,
    require_dtype,
    require_installed,
    require_name,
)
from reproduction.benchmarks.shapes import SHAPES, with_depth
from reproduction.benchmarks.training_step import MODELS, TrainingStep
from reproduction.case import Case, alone
from reproduction.rows import Row
from reproduction.timing import plan, summary
from reproduction.worker import InThisProcess, Worker, subject_on

_START_S = 120
# What one step may take where a single one is measured, however long it takes; this ends one that hangs.
_LIMIT_S = 4 * 3600.0
STEP = "training step"


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Options):
    """What to measure. Options given beside --preset change it."""

    preset: str | None = "6-layers"
    contenders: tuple[str, ...] = tuple(MODELS)
    dtype: tuple[str, ...] = ("float32", "bfloat16")
    """float32, or autocast to another one over float32 weights (on CPUs with units for it)."""
    batch: int = 1
    optimizer: str = "adam"
    repeats: int = 5
    max_seconds: float = 300.0
    """What one row may take: fewer steps if they do not fit."""

    def __post_init__(self) -> None:
        for name in self.contenders:
            require_name("contender", name, MODELS)
        for name in self.dtype:
            require_dtype(name)
        self.require_positive("batch", "repeats")


@dataclass(frozen=True, kw_only=True)
class MemoryOptions(Options):
    """What to measure. Options given beside --preset change it."""

    preset: str | None = "enwik8"
    layers: tuple[int, ...] | None = None
    """Depths; default: the preset's (3 and 12 of enwik8)."""
    seq_len: int | None = None
    """Default: the preset's."""
    reversible: tuple[bool, ...] | None = None
    """True, False (ordinary autograd) or both; default: the preset's."""
    dtype: str = "float32"
    """float32, or autocast to another one."""
    optimizer: str = "adafactor"

    def __post_init__(self) -> None:
        require_dtype(self.dtype)
        if self.layers is not None:
            self.require_positive("layers")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A training step to be measured: a model and how it is trained."""

    config: ReformerConfig
    seq_len: int
    contender: str = "reformer"
    batch: int = 1
    dtype: str = "float32"
    optimizer: str = "adam"
    device: str
    threads: int

    def case(self, benchmark: str, model: str, repeats: int, max_seconds: float, warm_up: bool = True) -> Case:
        """The row of this step in a process of its own. Without ``warm_up`` its first step is the one timed."""
        run = {name: getattr(self, name) for name in ("batch", "seq_len", "dtype", "optimizer", "device", "threads")}
        what = {
            "benchmark": benchmark,
            "contender": self.contender,
            "model": model,
            "direction": STEP,
            "layers": len(self.config.attention),
            "reversible": self.config.reversible,
            "d_model": self.config.d_model,
            "n_hashes": self.config.n_hashes,
            **run,
        }
        subject = Worker(TrainingStep, **self._arguments(), device=self.device)
        return Case(
            row=self.contender,
            config=what,
            run=lambda place: self._turns(subject, repeats, max_seconds, warm_up),
        )

    def measured(self, repeats: int) -> Row:
        """What a row would hold: of ``repeats`` steps after a first one; 0: of the first one, on a GPU of the second.

        On a CPU in a process of its own. Raises NotRun if the step fails or its memory does not suffice.
        """
        subject = subject_on(self.device, TrainingStep, **self._arguments())
        warm_up = repeats > 0 or self.device != "cpu"
        return alone(self._turns(subject, max(repeats, 1), _LIMIT_S, warm_up))

    def _arguments(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "device"}

    def _turns(
        self, subject: Worker | InThisProcess, repeats: int, max_seconds: float, warm_up: bool
    ) -> Generator[Row | None]:
        patience = 3 * max_seconds + _START_S
        if self.contender == "transformers":
            require_installed("transformers")
        if self.dtype == "bfloat16":
            require_bfloat16(self.device)
        with subject:
            if warm_up:
                first = subject.call("time", timeout=patience)
                repeats = plan(first, max_seconds=max_seconds, repeats=repeats, warmed=True).repeats
            samples: list[float] = []
            while len(samples) < repeats:
                yield None
                samples.append(subject.call("time", timeout=patience))
            found = summary(samples)
            report = subject.call("report", timeout=patience)
        speed = self.batch * self.seq_len / found["median_s"]
        timed = {"timed": MODELS[self.contender], "warmups": int(warm_up), "tokens_per_second": speed}
        yield {**found, **timed, **report}


def measure_step(
    config: ReformerConfig, *, seq_len: int, batch: int = 1, optimizer: str = "adam", repeats: int = 3
) -> Row:
    """A training step of ours on this machine, in bfloat16 on a GPU, as ``Step.measured`` says."""
    device = chosen_device("auto").type
    return Step(
        config=config,
        seq_len=seq_len,
        batch=batch,
        dtype="bfloat16" if device == "cuda" else "float32",
        optimizer=optimizer,
        device=device,
        threads=torch.get_num_threads(),
    ).measured(repeats)


def model_groups(options: ModelOptions, bench: Bench) -> Generator[list[Case]]:
    """Both models in each dtype take turns."""
    name = options.preset or ""
    config, length = SHAPES[name]()
    for dtype in options.dtype:
        yield [
            Step(
                config=config,
                seq_len=length,
                contender=contender,
                batch=options.batch,
                dtype=dtype,
                optimizer=options.optimizer,
                device=bench.device,
                threads=bench.threads,
            ).case("model", name, options.repeats, options.max_seconds)
            for contender in options.contenders
        ]


# What a preset of memory measures unless told otherwise: depths (None: its own) and reversible.
_DEFAULTS: dict[str, tuple[tuple[int | None, ...], tuple[bool, ...]]] = {
    "enwik8": ((3, 12), (True, False)),
    "1m": ((None,), (True,)),
    "6-layers": ((None,), (True, False)),
    "toy": ((2, 4), (True, False)),
}


def memory_groups(options: MemoryOptions, bench: Bench) -> Generator[list[Case]]:
    """One process after the other."""
    name = options.preset or ""
    config, length = SHAPES[name]()
    depths, kinds = _DEFAULTS[name]
    for reversible in options.reversible or kinds:
        for layers in options.layers or depths:
            step = Step(
                config=dataclasses.replace(with_depth(config, layers), reversible=reversible),
                seq_len=options.seq_len or length,
                dtype=options.dtype,
                optimizer=options.optimizer,
                device=bench.device,
                threads=bench.threads,
            )
            # On a GPU the first step compiles kernels; on a CPU it is as good as the next, and may take minutes.
            yield [step.case("memory", name, 1, _LIMIT_S, warm_up=bench.device == "cuda")]
