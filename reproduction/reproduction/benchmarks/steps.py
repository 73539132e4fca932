"""``reformer bench model`` and ``memory``: whole training steps.

"model": ours beside transformers' of the same sizes. Each model lives in a process of its own and keeps its weights; the
processes take turns, one step each. "memory": peak memory and time of one step, each in a fresh process; "enwik8" by depth,
reversible beside ordinary autograd, "1m" the paper's model of 1,048,576 tokens. The peak is that of the process (on a GPU: of
its tensors) from before the model was built; the activations are the peak less what the process held before the model, less
parameters, gradients and optimizer state.
"""

import dataclasses
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from reformer.models import EncoderDecoderConfig, ReformerConfig, ReformerEncoderDecoder, ReformerLM
from reformer.tasks.config import OptimizerConfig
from reformer.training.environment import chosen_device, peak_memory_bytes, reset_peak_memory
from reformer.training.optim import build_optimizer
from reproduction.benchmarks.benchmark import (
    DTYPES,
    Bench,
    Options,
    require_bfloat16,
    require_dtype,
    require_installed,
    require_name,
)
from reproduction.benchmarks.peers import transformers_model
from reproduction.benchmarks.shapes import SHAPES, with_depth
from reproduction.case import Case, Place, alone
from reproduction.rows import Row
from reproduction.timing import plan, seconds_of, timed
from reproduction.worker import Worker

MODELS = {
    "reformer": "ReformerLM, or the encoder-decoder: forward, loss, backward, optimizer",
    "transformers": "ReformerModelWithLMHead of the same sizes: forward, loss, backward, optimizer",
}
# Small enough that random tokens neither explode nor become denormal over a few steps.
LEARNING_RATE = 1e-4


class TrainingStep:
    """Model, optimizer and one batch of random tokens (``worker``).

    ``dtype``: "float32", or another one for autocast over float32 weights.
    """

    def __init__(
        self,
        contender: str,
        config: ReformerConfig,
        *,
        batch: int,
        seq_len: int,
        dtype: str,
        optimizer: str,
        device: str,
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self._device, self._dtype, self._step = device, DTYPES[dtype], 0
        self._tokens = torch.randint(0, config.vocab_size, (batch, seq_len), dtype=torch.int64, device=device)
        reset_peak_memory(device)
        self._before = peak_memory_bytes(device)
        build = _reformer if contender == "reformer" else _transformers
        self.model, self._loss = build(config, seq_len, device)
        settings = OptimizerConfig(name=optimizer, lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0)
        self._optimizer = build_optimizer(settings, self.model.named_parameters())
        self._last_loss: float | None = None

    def time(self) -> float:
        """Seconds of one step."""
        # A step is never short: one call is one step.
        return seconds_of(self._one_step, self._device, least_s=0.0)

    def report(self) -> dict[str, Any]:
        """The last loss, parameters, and bytes: peak of the process, held before the model, kept between steps."""
        parameters = list(self.model.parameters())
        states = [t for state in self._optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
        gradients = [p.grad for p in parameters if p.grad is not None]
        kept = sum(t.numel() * t.element_size() for t in (*parameters, *gradients, *states))
        peak = peak_memory_bytes(self._device)
        return {
            "loss": self._last_loss,
            "parameters": sum(p.numel() for p in parameters),
            "peak_bytes": peak,
            "before_bytes": self._before,
            "kept_bytes": kept,
            "activation_bytes": peak - self._before - kept,
        }

    def _one_step(self) -> None:
        self._step += 1
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._device, dtype=self._dtype, enabled=self._dtype != torch.float32):
            loss = self._loss(self._tokens, self._step)
        loss.backward()
        self._optimizer.step()
        value = loss.item()
        # No row holds a value that is no number.
        self._last_loss = value if math.isfinite(value) else None


_Build = tuple[nn.Module, Callable[[Tensor, int], Tensor]]


def _reformer(config: ReformerConfig, seq_len: int, device: str) -> _Build:
    if isinstance(config, EncoderDecoderConfig):
        both = ReformerEncoderDecoder(config).to(device)
        # The same ids are source and target: what is measured does not depend on them.
        return both, lambda tokens, step: both(tokens, both.shift_right(tokens), targets=tokens, seed=step)
    model = ReformerLM(config).to(device)
    return model, lambda tokens, step: model(model.shift_right(tokens), targets=tokens, seed=step)


def _transformers(config: ReformerConfig, seq_len: int, device: str) -> _Build:
    model = transformers_model(config, seq_len, device)
    return model, lambda tokens, step: model(input_ids=tokens, labels=tokens).loss


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


def step_case(
    what: Row, config: ReformerConfig | EncoderDecoderConfig, *, repeats: int, max_seconds: float, warm_up: bool = True
) -> Case:
    """The case of a training step in a process of its own.

    ``what``: its "benchmark", "contender", "model", "seq_len", "batch", "dtype", "optimizer", "device" and "threads". Without
    ``warm_up`` the first step of the process is the one timed.
    """
    shape = {"layers": len(config.attention), "reversible": config.reversible, "n_hashes": config.n_hashes}
    patience = 3 * max_seconds + _START_S
    names = ("contender", "batch", "seq_len", "dtype", "optimizer", "device", "threads")

    def run(place: Place) -> Generator[Row | None]:
        if what["contender"] == "transformers":
            require_installed("transformers")
        if what["dtype"] == "bfloat16":
            require_bfloat16(what["device"])
        with Worker(TrainingStep, config=config, **{name: what[name] for name in names}) as worker:

            def step() -> float:
                seconds: float = worker.call("time", timeout=patience)
                return seconds

            calls = plan(step(), max_seconds=max_seconds, repeats=repeats, warmed=True).repeats if warm_up else repeats
            times = yield from timed(step, calls)
            report = worker.call("report", timeout=patience)
        speed = what["batch"] * what["seq_len"] / times["median_s"]
        timed_what = {"timed": MODELS[what["contender"]], "warmups": int(warm_up), "tokens_per_second": speed}
        yield {**times, **timed_what, **report}

    return Case(row=what["contender"], config={**what, "direction": STEP, "d_model": config.d_model, **shape}, run=run)


def measure_step(
    config: ReformerConfig | EncoderDecoderConfig,
    *,
    seq_len: int,
    batch: int = 1,
    optimizer: str = "adam",
    repeats: int = 3,
) -> Row:
    """What a row would hold of a training step of ours on this machine, in bfloat16 on a GPU.

    Of ``repeats`` steps after a first one; 0: of the first one, on a GPU, where that compiles kernels, of the second. Raises
    NotRun if the step fails or its memory does not suffice.
    """
    device = chosen_device("auto").type
    machine = {"device": device, "threads": torch.get_num_threads()}
    dtype = "bfloat16" if device == "cuda" else "float32"
    what = {
        "contender": "reformer",
        "seq_len": seq_len,
        "batch": batch,
        "dtype": dtype,
        "optimizer": optimizer,
        **machine,
    }
    warm_up = repeats > 0 or device != "cpu"
    return alone(step_case(what, config, repeats=max(repeats, 1), max_seconds=_LIMIT_S, warm_up=warm_up))


def _what(benchmark: str, options: Any, bench: Bench, **more: Any) -> Row:
    machine = {"device": bench.device, "threads": bench.threads}
    return {"benchmark": benchmark, "model": options.preset, "optimizer": options.optimizer, **machine, **more}


def model_groups(options: ModelOptions, bench: Bench) -> Generator[list[Case]]:
    """Both models in each dtype take turns."""
    config, length = SHAPES[options.preset or ""]()
    limits: dict[str, Any] = {"repeats": options.repeats, "max_seconds": options.max_seconds}
    for dtype in options.dtype:
        shape = {"batch": options.batch, "seq_len": length, "dtype": dtype}
        whats = [_what("model", options, bench, contender=name, **shape) for name in options.contenders]
        yield [step_case(what, config, **limits) for what in whats]


# What a preset of memory measures unless told otherwise: depths (None: its own) and reversible.
_DEFAULTS: dict[str, tuple[tuple[int | None, ...], tuple[bool, ...]]] = {
    "enwik8": ((3, 12), (True, False)),
    "1m": ((None,), (True,)),
    "6-layers": ((None,), (True, False)),
    "toy": ((2, 4), (True, False)),
}


def memory_groups(options: MemoryOptions, bench: Bench) -> Generator[list[Case]]:
    """One process after the other."""
    base, length = SHAPES[options.preset or ""]()
    depths, kinds = _DEFAULTS[options.preset or ""]
    shape = {"contender": "reformer", "batch": 1, "seq_len": options.seq_len or length, "dtype": options.dtype}
    for reversible, layers in product(options.reversible or kinds, options.layers or depths):
        config = dataclasses.replace(with_depth(base, layers), reversible=reversible)
        what = _what("memory", options, bench, **shape)
        # On a GPU the first step compiles kernels; on a CPU it is as good as the next, and may take minutes.
        yield [step_case(what, config, repeats=1, max_seconds=_LIMIT_S, warm_up=bench.device == "cuda")]
