"""Optimizers and their learning rates: the authors' Adafactor, Muon, one builder for all, and their state as tensors."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from reformer.tasks.config import OptimizerConfig
from reformer.training.muon import Muon, OptimizerOfUpdates

_FUSED_DEVICES = {"cpu", "cuda", "xpu", "mps"}
_OF_THIS_MACHINE = ("foreach", "fused", "capturable", "differentiable")


class Adafactor(OptimizerOfUpdates):
    """Adafactor (Shazeer and Stern 2018, algorithm 4) as the Reformer's authors ran it in 2019.

    At step t, for a weight W with gradient G and decay b = 1 - t^-decay_rate:

        V = b V + (1 - b) (G^2 + eps1)            for dim >= 2 kept as its means R (rows) and C (columns) over the last
                                                  two dimensions, V ~ R C / mean(R); no momentum
        U = G / sqrt(V),  U = U / max(1, rms(U) / clip_threshold)
        W = (1 - weight_decay) W - lr max(eps2, rms(W)) U

    Differences that matter. ``torch.optim.Adafactor`` caps the step size at min(lr, 1/sqrt(t)): that would halve the
    paper's 2/sqrt(t) once past its warm-up; here lr is used as given. Weight decay is not multiplied by lr, as in the
    authors' code and unlike AdamW. State is float32 whatever the weights are. No step waits for the device.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.05,
        *,
        decay_rate: float = 0.8,
        clip_threshold: float = 1.0,
        eps: tuple[float, float] = (1e-30, 1e-3),
        weight_decay: float = 1e-5,
    ) -> None:
        """Raises ValueError for a negative ``lr``, ``decay_rate`` or ``weight_decay``, or a threshold not above 0."""
        for name, value in (("lr", lr), ("decay_rate", decay_rate), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"Adafactor: expected {name} >= 0, got {value}")
        if not clip_threshold > 0:
            raise ValueError(f"Adafactor: expected clip_threshold > 0, got {clip_threshold}; the paper's is 1.0")
        defaults = {"decay_rate": decay_rate, "clip_threshold": clip_threshold, "eps": eps}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **defaults})

    def update(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if gradient.is_sparse or gradient.is_complex():
            raise RuntimeError("Adafactor: expected dense real gradients, got sparse or complex ones; use adam")
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state |= _zero_moments(parameter)
        state["step"] += 1
        eps1, eps2 = group["eps"]
        update = _scaled_gradient(gradient.float(), state, state["step"] ** -group["decay_rate"], eps1)
        clip = (_rms(update) / group["clip_threshold"]).clamp_(min=1.0)
        # Scales stay tensors on the device: reading one as a Python float would wait for it, once per parameter.
        scale = _rms(parameter).clamp_(min=eps2).mul_(group["lr"]).div_(clip)
        if group["weight_decay"]:
            parameter.mul_(1.0 - group["weight_decay"])
        parameter.sub_(update.mul_(scale))


def _zero_moments(parameter: Tensor) -> dict[str, Tensor]:
    shape = list(parameter.shape)
    if len(shape) < 2:
        return {"variance": torch.zeros_like(parameter, dtype=torch.float32)}
    rows, columns = shape[:-1], shape[:-2] + shape[-1:]
    return {
        "row_variance": torch.zeros(rows, dtype=torch.float32, device=parameter.device),
        "column_variance": torch.zeros(columns, dtype=torch.float32, device=parameter.device),
    }


def _scaled_gradient(gradient: Tensor, state: dict[str, Any], fresh: float, eps1: float) -> Tensor:
    """G / sqrt(V) in a new tensor, after mixing G^2 + eps1 into V with weight ``fresh`` = 1 - b."""
    if gradient.dim() < 2:
        variance: Tensor = state["variance"].lerp_(gradient.square().add_(eps1), fresh)
        return variance.rsqrt().mul_(gradient)
    row: Tensor = state["row_variance"].lerp_(_mean_square(gradient, -1).add_(eps1), fresh)
    column: Tensor = state["column_variance"].lerp_(_mean_square(gradient, -2).add_(eps1), fresh)
    # Not (row / mean)^-0.5: for a row that never had a gradient that ratio underflows when the others' are large.
    row_factor = row.rsqrt().mul_(row.mean(dim=-1, keepdim=True).sqrt_())
    return (gradient * row_factor.unsqueeze(-1)).mul_(column.rsqrt().unsqueeze(-2))


def _mean_square(tensor: Tensor, dim: int) -> Tensor:
    # Through the norm, which does not materialise the squares.
    norm: Tensor = torch.linalg.vector_norm(tensor, dim=dim)
    return norm.square_().div_(tensor.shape[dim])


def _rms(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor, dtype=torch.float32)
    return norm.div_(max(tensor.numel(), 1) ** 0.5)


class MuonWithAdamW(OptimizerOfUpdates):
    """``Muon`` for matrices, ``torch.optim.AdamW`` for what it was not made for: embeddings, output head, norms, biases.

    One list of parameter groups and one state, so that schedules and checkpoints see an ordinary optimizer. A group's
    ``lr_scale`` is its learning rate as a fraction of the schedule's.
    """

    def __init__(
        self, matrices: list[dict[str, Any]], others: list[dict[str, Any]], config: OptimizerConfig, fused: bool
    ) -> None:
        scale = config.others_lr_scale
        self._muon = Muon(matrices, config.lr)
        self._adamw = torch.optim.AdamW(others, config.lr * scale, config.betas, config.eps, fused=fused)
        for optimizer, lr_scale in ((self._muon, 1.0), (self._adamw, scale)):
            for group in optimizer.param_groups:
                group["lr_scale"] = lr_scale
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})

    def update(self) -> None:
        split = len(self._muon.param_groups)
        # Shared anew each time: loading a checkpoint replaces both.
        for optimizer, groups in ((self._muon, self.param_groups[:split]), (self._adamw, self.param_groups[split:])):
            optimizer.param_groups, optimizer.state = groups, self.state
            optimizer.step()


def build_optimizer(config: OptimizerConfig, named_parameters: Iterable[tuple[str, Tensor]]) -> torch.optim.Optimizer:
    """The optimizer of ``config`` over the parameters that require gradients.

    Weight decay is kept from tensors of fewer than two dimensions (norms, biases), and from all of them under ``adam``.
    ``adafactor`` has no use for ``betas`` and ``eps``. ``muon`` is for the matrices of a ``stack``; everything else is
    AdamW's, at ``others_lr_scale`` of the learning rate. Adam and AdamW run fused where torch can.
    Raises ValueError if there is nothing to be trained (``muon``: no matrix).
    """
    name = config.name
    trained = [(key, parameter) for key, parameter in named_parameters if parameter.requires_grad]
    if not trained:
        raise ValueError(f"{name}: expected parameters that require gradients, got none")
    groups = _decay_groups(trained, 0.0 if name == "adam" else config.weight_decay)
    if name == "adafactor":
        return Adafactor(groups, config.lr)
    fused = all(p.device.type in _FUSED_DEVICES and p.is_floating_point() for _, p in trained)
    if name == "muon":
        matrices = [(key, p) for key, p in trained if p.dim() == 2 and "stack" in key.split(".")]
        if not matrices:
            raise ValueError("muon: expected matrices of a stack that require gradients, got none; use adamw")
        chosen = {key for key, _ in matrices}
        others = _decay_groups([(key, p) for key, p in trained if key not in chosen], 0.0)
        return MuonWithAdamW(_decay_groups(matrices, config.weight_decay), others, config, fused)
    how = {"fused": True} if fused else {"foreach": True}
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, betas=config.betas, eps=config.eps, **how)


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """The learning rate at step t of T: a linear warm-up, min(t, w)/w, times what the config's schedule says.

    "rsqrt": lr / sqrt(max(t, w)), as the authors' code (2019) has it; the peak, at t = w, is lr/sqrt(w): the paper's lr is
    2.0 with w = 8000. "cosine": lr * (f + (1 - f) * (1 + cos(pi * (t - w)/(T - w)))/2), f the final fraction, and lr * f
    after T. "constant": lr. Raises ValueError for t < 1.
    """
    if step < 1:
        raise ValueError(f"expected step >= 1, got {step}")
    w, f = config.warmup_steps, config.final_fraction
    lr = config.lr * (min(step / w, 1.0) if w else 1.0)
    if config.schedule == "rsqrt":
        return lr / math.sqrt(max(step, w))
    if config.schedule == "cosine":
        done = min(max(step - w, 0) / max(total_steps - w, 1), 1.0)
        return lr * (f + (1 - f) * (1 + math.cos(math.pi * done)) / 2)
    return lr


def _decay_groups(named: list[tuple[str, Tensor]], weight_decay: float) -> list[dict[str, Any]]:
    groups = [
        {"params": [(key, p) for key, p in named if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [(key, p) for key, p in named if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Flatten an optimizer's state: tensors keyed ``<parameter index>.<name>``, and everything else as JSON values.

    A tensor in a parameter group (a learning rate may be one) is keyed ``group.<group index>.<name>``. The tensors are
    the optimizer's own, not copies.
    """
    saved = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    meta: dict[str, Any] = {
        "class": type(optimizer).__name__,
        "shapes": [list(parameter.shape) for parameter in _parameters(optimizer)],
        "scalars": {},
        "groups": [],
    }
    for index, entries in saved["state"].items():
        tensors |= {f"{index}.{name}": value for name, value in entries.items() if isinstance(value, Tensor)}
        scalars = {name: value for name, value in entries.items() if not isinstance(value, Tensor)}
        if scalars:
            meta["scalars"][str(index)] = scalars
    for index, group in enumerate(saved["param_groups"]):
        tensors |= {f"group.{index}.{name}": value for name, value in group.items() if isinstance(value, Tensor)}
        meta["groups"].append({name: value for name, value in group.items() if not isinstance(value, Tensor)})
    return tensors, meta


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Restore what `optimizer_tensors` gave, bit for bit, onto each parameter's device; ``tensors`` are copied.

    How a step is computed (fused, foreach) stays as the live optimizer has it. Raises ValueError if the optimizer is of
    another class or holds other parameters.
    """
    _check_same_optimizer(optimizer, meta)
    live = optimizer.state_dict()["param_groups"]
    groups = [_merged_group(new, old) for new, old in zip(live, meta["groups"])]
    state: dict[int, dict[str, Any]] = {int(index): dict(scalars) for index, scalars in meta["scalars"].items()}
    for key, tensor in tensors.items():
        index, _, name = key.removeprefix("group.").partition(".")
        target = groups[int(index)] if key.startswith("group.") else state.setdefault(int(index), {})
        target[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for position, parameter in enumerate(_parameters(optimizer)):
        for name, value in state.get(position, {}).items():
            if isinstance(value, Tensor):
                optimizer.state[parameter][name] = _own(optimizer.state[parameter][name], value, name)


def _own(loaded: Tensor, saved: Tensor, name: str) -> Tensor:
    """``loaded`` in the dtype of ``saved``, sharing no memory with it."""
    # torch casts floating-point state (not the step) to the parameter's dtype: state kept wider would lose bits.
    dtype = loaded.dtype if name == "step" else saved.dtype
    if loaded.dtype == dtype and loaded.data_ptr() != saved.data_ptr():
        return loaded
    return saved.to(loaded.device, dtype, copy=True)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _check_same_optimizer(optimizer: torch.optim.Optimizer, meta: Mapping[str, Any]) -> None:
    name = type(optimizer).__name__
    if meta["class"] != name:
        raise ValueError(f"the checkpoint holds the state of {meta['class']}, this run's optimizer is {name}")
    live, saved = optimizer.param_groups, meta["groups"]
    for new, old in zip(live, saved):
        for mine, theirs in zip(new.get("param_names", ()), old.get("param_names", ())):
            if mine != theirs:
                raise ValueError(f"the checkpoint's optimizer has parameter {theirs} where this run's has {mine}")
    sizes, saved_sizes = ([len(group["params"]) for group in groups] for groups in (live, saved))
    if sizes != saved_sizes or [list(parameter.shape) for parameter in _parameters(optimizer)] != list(meta["shapes"]):
        raise ValueError(
            f"the checkpoint's optimizer holds other parameters or shapes (groups of {saved_sizes}, "
            f"this run's of {sizes}); resume with the configuration that wrote it"
        )


def _merged_group(live: dict[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    group = {name: tuple(value) if isinstance(live.get(name), tuple) else value for name, value in saved.items()}
    return group | {name: live[name] for name in ("params", *_OF_THIS_MACHINE) if name in live}
