"""How far cached decoding is from the parallel pass, for each pattern, on a trained run of text:

    python benchmarks/decoding_agreement.py RUN [--length 4096] [--prompt 1] [--seeds 3]

A text of the test split is decoded token by token after a prompt, and read in one parallel pass, under the same rotations;
differences are over all positions after the prompt. Also counted: tokens whose bucket, in some head and round of the first
LSH layer, differs between the two because two products of other shapes differ in their last bits.
"""

import argparse
import math
from pathlib import Path

import torch
import torch.nn.functional as F

from reformer.models import ReformerLM
from reformer.tasks.text.task import TextTask
from reformer.training.run_directory import load_trained


def compare(model: ReformerLM, row: torch.Tensor, prompt: int, seed: int) -> dict[str, float]:
    """Of the positions from ``prompt`` on: differences of logits, greedy agreement, loss of both, flipped buckets."""
    n, model = row.shape[1], model.eval()
    state, whole = model.decoding_state(1, row.shape[1], seed), model.decoding_state(1, row.shape[1], seed)
    parts = [model.decode(row[:, :prompt], state)]
    parts += [model.decode(row[:, t : t + 1], state) for t in range(prompt, row.shape[1])]
    cached, parallel = torch.cat(parts, 1)[0, prompt - 1 : -1], model.decode(row, whole)[0, prompt - 1 : -1]
    targets = row[0, prompt:]
    mine, theirs = next(pair for pair in zip(state.caches, whole.caches) if pair[0].buckets is not None)
    flipped = mine.buckets[..., :n] != theirs.buckets[..., :n]
    differences = (cached - parallel).abs()
    return {
        "largest difference of logits": differences.max().item(),
        "mean difference of logits": differences.mean().item(),
        "positions that differ by more than 1e-4 (%)": 100 * (differences.amax(-1) > 1e-4).double().mean().item(),
        "same greedy byte (%)": 100 * (cached.argmax(-1) == parallel.argmax(-1)).double().mean().item(),
        "bits per byte, cached": F.cross_entropy(cached, targets).item() / math.log(2),
        "bits per byte, parallel": F.cross_entropy(parallel, targets).item() / math.log(2),
        "buckets that differ, first LSH layer": float(flipped.sum()),
        "of so many": float(flipped.numel()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--prompt", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache-dir", type=Path, default=Path("~/.cache/reformer"))
    options = parser.parse_args()
    run, model, step = load_trained(options.run)
    print(f"{run.config.name}, step {step}, {options.length} bytes, prompt of {options.prompt}, {options.seeds} seeds")
    task = run.config.make_task(options.cache_dir.expanduser())
    assert isinstance(task, TextTask)
    text = task.corpus.split("test")
    row = torch.tensor([[model.config.start_id, *text[: options.length - 1].tolist()]])
    for pattern in ("paper", "bucket", "trax"):
        changed = model.with_changes(pattern=pattern).eval()
        found = [compare(changed, row, options.prompt, seed) for seed in range(options.seeds)]
        print(pattern)
        for name in found[0]:
            values = [each[name] for each in found]
            print(f"  {name}: {sum(values) / len(values):.6g} ({min(values):.6g} to {max(values):.6g})")


if __name__ == "__main__":
    main()
