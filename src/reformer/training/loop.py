"""The training loop: deterministic, resumable to the bit, and safe to interrupt."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from reformer.ops import as_seed, derive_seed
from reformer.tasks.config import RunConfig
from reformer.tasks.earlier import current_row
from reformer.tasks.protocol import Measurement, Task
from reformer.training.card import FINISHED, commits, is_finished, measured, write_card
from reformer.training.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    restore_rng_state,
    rng_state,
    save_checkpoint,
)
from reformer.training.environment import (
    chosen_device,
    code_version,
    environment,
    peak_memory_bytes,
    reset_peak_memory,
)
from reformer.training.metrics import MetricsLog
from reformer.training.optim import build_optimizer, learning_rate, load_optimizer, optimizer_tensors
from reformer.training.progress import Progress
from reformer.training.run_directory import CHECKPOINTS, claim, only_writer, write_config


class TrainingDiverged(RuntimeError):
    """The loss or its gradient is no longer finite; the message names the step and the likely causes."""


@dataclass
class Outcome:
    """How a run ended: "finished", or "stopped" by a signal that it names."""

    directory: Path
    status: str
    step: int
    stopped_by: str | None = None
    validation: Measurement | None = None
    """The last one."""


@dataclass
class _State:
    """Everything that a checkpoint saves beside tensors."""

    step: int = 0
    elapsed: float = 0.0
    best: float = math.inf
    best_step: int | None = None
    validation: Measurement | None = None
    validation_step: int = 0


def train(
    config: RunConfig, directory: Path, *, cache_dir: Path, resume: bool = False, command: list[str] | None = None
) -> Outcome:
    """Run ``config`` in ``directory`` until its last step, a signal, or a loss that is not finite.

    ``resume`` continues from the newest undamaged checkpoint as if there had been no interruption, or starts anew where
    there is none. Raises RunError, DataError or ValueError for a run that cannot start, TrainingDiverged, and
    CheckpointError if a checkpoint cannot be written.
    """
    existing = claim(directory, config, resume=resume)
    task = config.make_task(cache_dir, None if existing is None else existing.corpus_directory)
    with only_writer(directory):
        if existing is None:
            corpus = None if task.corpus is None else task.corpus.directory
            write_config(directory, config, command or [], corpus)
        return _Loop(config, directory, task, command or []).run()


class _Loop:
    def __init__(self, config: RunConfig, directory: Path, task: Task, command: list[str]) -> None:
        self.config, self.directory, self.task, self.command = config, directory, task, command
        self.device = chosen_device(config.device)
        torch.manual_seed(config.seed)
        self.model = config.make_model().to(self.device).train()
        self.optimizer = build_optimizer(config.optimizer, self.model.named_parameters())
        self.state = _State()
        # What this process has loaded, whatever is committed while it trains.
        self.code = code_version()
        self.loss = torch.compile(self._loss) if config.compile else self._loss

    def run(self) -> Outcome:
        config, state = self.config, self.state
        notices: list[str] = []
        checkpoint = latest_checkpoint(self.directory / CHECKPOINTS, notices.append)
        if checkpoint is not None:
            self._restore(checkpoint)
            if state.step == config.steps and is_finished(self.directory):
                # Nothing is left to do, and the card names what it was done on and what was measured since.
                return self._outcome()
            # The card says by which commits the steps before this process were made, where they are others.
            if earlier := [commit for commit in commits(self.directory) if commit != self.code["commit"]]:
                self.code["earlier_commits"] = earlier
        with (
            MetricsLog(self.directory, resume_step=state.step) as metrics,
            Progress(config.steps, config.metric, start_step=state.step) as progress,
            _stop_signals() as stop,
        ):
            for line in notices:
                progress.message(line)
            if state.step:
                progress.message(f"continuing from step {state.step} of {config.steps}")
            if metrics.notice:
                progress.message(metrics.notice)
            self._write_card("running")
            try:
                self._steps(metrics, progress, stop)
            except TrainingDiverged as error:
                self._write_card(f"diverged: {error}")
                raise
        if state.step < config.steps:
            self._write_card("interrupted")
            return self._outcome(stop[0])
        self._plot()
        self._write_card(FINISHED)
        return self._outcome()

    def _outcome(self, stopped_by: str | None = None) -> Outcome:
        status = "stopped" if stopped_by else "finished"
        return Outcome(self.directory, status, self.state.step, stopped_by, self.state.validation)

    def _steps(self, metrics: MetricsLog, progress: Progress, stop: list[str]) -> None:
        config, state = self.config, self.state
        reset_peak_memory(self.device)
        saved_step = state.step
        began, began_at, logged, logged_at = perf_counter(), state.elapsed, perf_counter(), state.step
        while state.step < config.steps and not stop:
            loss, norm, rate = self._step(state.step + 1)
            state.step += 1
            state.elapsed = began_at + perf_counter() - began
            last = state.step == config.steps
            if state.step % config.log_every == 0 or last or stop:
                seconds = perf_counter() - logged
                tokens = (state.step - logged_at) * config.tokens_per_step
                record = self._record(loss, norm, rate, tokens / max(seconds, 1e-9))
                metrics.write(record)
                progress.update(record)
                logged, logged_at = perf_counter(), state.step
            improved = False
            if state.step % config.eval_every == 0 or last:
                improved = self._evaluate(metrics, progress)
                logged = perf_counter()
            if state.step % config.checkpoint_every == 0 or improved or last:
                metrics.flush()
                self._save()
                saved_step = state.step
        if saved_step != state.step:
            metrics.flush()
            self._save()

    def _step(self, step: int) -> tuple[float, float, float]:
        """(loss in nats, gradient norm, learning rate) of one optimizer step."""
        config, optimizer = self.config, self.config.optimizer
        rate = learning_rate(optimizer, step, config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), dtype=torch.float32, device=self.device)
        for part in range(config.accumulate):
            index = (step - 1) * config.accumulate + part
            batch = tuple(torch.from_numpy(array).to(self.device) for array in self.task.batch(index))
            loss = self.loss(batch, derive_seed(as_seed(config.seed), step, part))
            torch.autograd.backward(loss / config.accumulate)
            total += loss.detach() / config.accumulate
        limit = math.inf if optimizer.clip_norm is None else optimizer.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit, foreach=True)
        loss_value, norm_value = total.item(), norm.item()
        if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
            raise TrainingDiverged(self._diagnosis(step, loss_value, norm_value, rate))
        self.optimizer.step()
        return loss_value, norm_value, rate

    def _loss(self, batch: tuple[Tensor, ...], seed: Tensor) -> Tensor:
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.config.autocast else nullcontext()
        with autocast:
            return self.task.loss(self.model, batch, seed)

    def _evaluate(self, metrics: MetricsLog, progress: Progress) -> bool:
        """Measure on the validation split; True if it is the best so far."""
        state = self.state
        found = self.task.validate(self.model)
        metrics.write({"step": state.step, "kind": "validation", **found.as_dict()})
        progress.message(f"step {state.step}: validation {found}")
        state.validation, state.validation_step = found, state.step
        if not found.value < state.best:
            return False
        state.best, state.best_step = found.value, state.step
        return True

    def _record(self, loss: float, norm: float, rate: float, tokens_per_second: float) -> dict[str, Any]:
        return {
            "step": self.state.step,
            "kind": "train",
            "loss": loss,
            "metric": self.config.metric,
            "value": loss / math.log(2) / self.task.bytes_per_token,
            "lr": rate,
            "grad_norm": norm,
            "tokens_per_second": tokens_per_second,
            "peak_memory_bytes": peak_memory_bytes(self.device),
            "seconds": self.state.elapsed,
        }

    def _save(self) -> None:
        tensors, meta = optimizer_tensors(self.optimizer)
        state = self.state
        found = {} if state.validation is None else {"step": state.validation_step, **state.validation.as_dict()}
        save_checkpoint(
            self.directory / CHECKPOINTS,
            state.step,
            {"model": self.model.state_dict(), "optimizer": tensors, "rng": rng_state()},
            {
                "optimizer": meta,
                "elapsed": state.elapsed,
                "best": None if math.isinf(state.best) else state.best,
                "best_step": state.best_step,
                "validation": found,
                "data_position": state.step * self.config.accumulate,
            },
            keep_last=self.config.keep_last,
            protect=() if state.best_step is None else (state.best_step,),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.tensors["model"])
        load_optimizer(self.optimizer, checkpoint.tensors["optimizer"], checkpoint.state["optimizer"])
        restore_rng_state(checkpoint.tensors["rng"])
        saved, state = checkpoint.state, self.state
        state.step, state.elapsed = checkpoint.step, saved["elapsed"]
        state.best = math.inf if saved["best"] is None else saved["best"]
        state.best_step, validation = saved["best_step"], current_row(saved["validation"])
        if validation:
            state.validation_step = validation.pop("step")
            state.validation = Measurement.from_dict(validation)

    def _plot(self) -> None:
        try:
            from reformer.training.plots import plot_curves

            plot_curves(self.directory / "metrics.jsonl", self.directory / "plots")
        except ImportError:
            (self.directory / "plots").mkdir(exist_ok=True)
            (self.directory / "plots" / "README").write_text(
                "matplotlib is not installed: pip install 'reformer-torch[train]'\n"
            )

    def _write_card(self, status: str) -> None:
        config, state = self.config, self.state
        results = [] if state.validation is None else measured(state.validation, "validation", state.validation_step)
        card = {
            "status": f"{status} (step {state.step} of {config.steps})",
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "code": self.code,
            **environment(),
            "data": self.task.card(),
            "setup": {
                "command": self.command,
                "config": config.as_dict(),
                "seeds": {"seed": config.seed, "per step": "derived from (seed, step, pass); see docs/algorithm.md"},
            },
            "cost": {
                "wall_time_seconds": state.elapsed,
                "peak_memory_bytes": peak_memory_bytes(self.device),
                "tokens": state.step * config.tokens_per_step,
                "parameters": sum(p.numel() for p in self.model.parameters()),
            },
            "results": results,
            "pseudocode": "docs/algorithm.md",
        }
        write_card(self.directory, card)

    def _diagnosis(self, step: int, loss: float, norm: float, rate: float) -> str:
        saved = latest_checkpoint(self.directory / CHECKPOINTS)
        kept = "no checkpoint was written yet" if saved is None else f"checkpoint of step {saved.step} is intact"
        return (
            f"step {step}: loss {loss}, gradient norm {norm} at learning rate {rate:.3g}; likely causes: learning rate "
            f"too high (optimizer.lr), warm-up too short (optimizer.warmup_steps), no clipping (optimizer.clip_norm)"
            f"{', bfloat16 range (autocast)' if self.config.autocast else ''}; {kept}"
        )


@contextmanager
def _stop_signals() -> Iterator[list[str]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop after the running step, its name; the second acts as usual."""
    stop: list[str] = []
    before: dict[signal.Signals, Any] = {}

    def request(number: int, frame: FrameType | None) -> None:
        which = signal.Signals(number)
        stop.append(which.name)
        signal.signal(which, before[which])

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, request)
    except ValueError:
        # Not the main thread: there signals cannot be handled, and whoever started it decides when to stop.
        before.clear()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
