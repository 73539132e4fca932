"""Train a byte-level Reformer on your own text, then let it write.

    python examples/train_own_text.py PATH          # a file or a folder; .gz, .xz and .zst too
    python examples/train_own_text.py               # without one: the source text of this Python

A few minutes on a laptop. Interrupt it as you like: the same command goes on where it was. The run's folder then serves the
`reformer` command too: `reformer eval runs/own-text`, `reformer generate runs/own-text`. Needs 'reformer-torch[train]'.
"""

import argparse
import dataclasses
from pathlib import Path

from reformer.generation import SamplingConfig, generate
from reformer.tasks.text.recipes import quickstart
from reformer.training.loop import train
from reformer.training.run_directory import load_trained


def main(arguments: list[str] | None = None) -> None:
    """Train, then print a sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="stdlib", help="file or folder; default: this Python's source")
    parser.add_argument("--out", type=Path, default=Path("runs/own-text"))
    parser.add_argument("--cache-dir", type=Path, default=Path("~/.cache/reformer").expanduser())
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seq-len", type=int, default=4096, help="bytes of a training window")
    parser.add_argument("--prompt", default="The ")
    parser.add_argument("--n-bytes", type=int, default=300)
    options = parser.parse_args(arguments)

    # A run is one frozen value. Start from a recipe that is known to train, and change what is yours.
    config = dataclasses.replace(
        quickstart(),
        name="own-text",
        data=options.data,
        seq_len=options.seq_len,
        steps=options.steps,
        eval_every=options.steps,
        eval_bytes=4 * options.seq_len,
    )
    outcome = train(config, options.out, cache_dir=options.cache_dir, resume=(options.out / "config.json").exists())
    if outcome.status == "stopped":
        print(f"stopped after step {outcome.step}; the same command goes on from there")
        return
    print(f"{outcome.validation.value:.2f} {outcome.validation.metric} on text that it was not trained on")

    _, model, _ = load_trained(options.out)
    sampling = SamplingConfig(temperature=0.8, top_p=0.95)
    # As many hash buckets as in training: those of max_len.
    max_len = max(options.seq_len, len(options.prompt.encode()) + options.n_bytes)
    (continuation,) = generate(model, [options.prompt.encode()], options.n_bytes, sampling, max_len=max_len)
    print(options.prompt + bytes(continuation).decode(errors="replace"))


if __name__ == "__main__":
    main()
