"""Peak memory and time of one training step at L = 65,536 by depth: reversible beside ordinary autograd.

    python benchmarks/memory.py --out results/memory.jsonl

The shape is that of the recipe enwik8-64k-12l with d_model reduced (default 256, d_ff 1024), Adafactor, one window.
Each row is measured in a process of its own: peak resident memory of the step, less what the process held before the
model, less parameters, gradients and optimizer state. Rows are appended as JSON lines.
"""

import dataclasses
import gc
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import tyro


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    out: Path | None = None
    """File that the rows are appended to; they are printed in any case."""
    layers: tuple[int, ...] = (3, 12)
    """Depths."""
    seq_len: int = 65_536
    d_model: int = 256
    include_ordinary: bool = True
    """Also measure reversible=False."""
    one: tuple[int, bool] | None = None
    """Internal: measure (layers, reversible) in this process and print the row."""


def measure(options: Options, n_layers: int, reversible: bool) -> dict:
    """One training step; the row."""
    import torch

    from reformer.models import ReformerLM
    from reformer.training.environment import code_version, environment, peak_memory_bytes, reset_peak_memory
    from reformer.training.optim import build_optimizer
    from reformer.training.recipes import recipe

    base = recipe("enwik8-64k-12l").model
    d = options.d_model
    config = dataclasses.replace(
        base,
        attention=("lsh",) * n_layers,
        d_model=d,
        d_ff=4 * d,
        axial_dims=(d // 4, d - d // 4),
        reversible=reversible,
    )
    device = torch.device("cpu")
    torch.manual_seed(0)
    tokens = torch.randint(0, 256, (1, options.seq_len))
    reset_peak_memory(device)
    before = peak_memory_bytes(device)
    model = ReformerLM(config)
    optimizer = build_optimizer(
        "adafactor", model.named_parameters(), lr=1e-2, betas=(0.9, 0.98), eps=1e-9, weight_decay=1e-5
    )
    began = perf_counter()
    loss = model(model.shift_right(tokens), targets=tokens, seed=1)
    loss.backward()
    optimizer.step()
    seconds = perf_counter() - began
    gc.collect()
    peak = peak_memory_bytes(device)
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    states = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    kept = 2 * parameters + sum(t.numel() * t.element_size() for t in states)
    return {
        "benchmark": "memory",
        "layers": n_layers,
        "reversible": reversible,
        "seq_len": options.seq_len,
        "d_model": d,
        "loss": loss.item(),
        "seconds": round(seconds, 1),
        "peak_bytes": peak,
        "before_bytes": before,
        "kept_bytes": kept,
        "activation_bytes": peak - before - kept,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_version(),
        **environment(),
    }


def main(options: Options) -> None:
    """Measure every depth, each in a fresh process."""
    if options.one is not None:
        print(json.dumps(measure(options, *options.one)))
        return
    rows = []
    for reversible in (True, False) if options.include_ordinary else (True,):
        for n_layers in options.layers:
            command = [sys.executable, __file__, "--one", str(n_layers), str(reversible)]
            command += ["--seq-len", str(options.seq_len), "--d-model", str(options.d_model)]
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            row = {**json.loads(result.stdout.splitlines()[-1]), "command": " ".join(["python", *sys.argv])}
            rows.append(row)
            print(
                f"{n_layers:>3} layers  reversible={reversible!s:<5}  peak {row['peak_bytes'] / 2**30:6.2f} GiB  "
                f"activations {row['activation_bytes'] / 2**30:6.2f} GiB  {row['seconds']:7.1f} s",
                flush=True,
            )
            if options.out is not None:
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    for reversible in (True, False):
        sizes = [row["activation_bytes"] for row in rows if row["reversible"] == reversible]
        if len(sizes) > 1:
            print(f"reversible={reversible}: deepest over shallowest, activations: {sizes[-1] / sizes[0]:.3f}")


if __name__ == "__main__":
    main(tyro.cli(Options))
