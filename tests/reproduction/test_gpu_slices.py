"""The gpu scale, dry: its trainings at toy size on a CPU (kinds of layers, dtype, optimizer as they are), and its script."""

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reformer.tasks.config import RunConfig
from reformer.tasks.translation import TranslationConfig
from reformer.training.loop import train
from reformer.training.metrics import METRICS_FILE, read_metrics
from reproduction.experiments.experiment import short_id
from reproduction.experiments.registry import NAMES, experiment

ROOT = Path(__file__).parents[2]
# What stands for each corpus; a length that the task allows.
TOY = {
    "text": ("stdlib", 256),
    "images": ("shapes", 192),
    "translation": ("numbers", 64),
    "packed-translation": ("numbers", 64),
    "duplication": ("synthetic", 64),
    "recall": ("synthetic", 64),
}


def toy(config: RunConfig) -> RunConfig:
    data, length = TOY[config.task]
    model: dict[str, Any] = {"d_model": 32, "d_ff": 32, "n_heads": 2, "lsh_chunk_len": 16, "local_chunk_len": 16}
    model |= {"n_buckets": None, "max_len": 256, "axial_dims": None, "d_attn": None}
    if config.model.positions == "axial":
        model["axial_shape"] = (8, 8, 3) if config.task == "images" else (16, 16)
    if isinstance(config, TranslationConfig):
        model["vocab_size"] = 300
    changes: dict[str, Any] = {"data": data, "batch_size": 1, "batch_tokens": 128}
    changes |= {"eval_bytes": 192, "eval_pictures": 1, "eval_sequences": 192}
    # Each task has those of them that mean something in it.
    changes = {name: value for name, value in changes.items() if hasattr(config, name)}
    small = dataclasses.replace(config.model, **model)
    return dataclasses.replace(config, **changes, seq_len=length, steps=2, eval_every=2, model=small)


def gpu_trainings() -> dict[str, RunConfig]:
    """Those of all experiments, each once."""
    found = {}
    for name in NAMES:
        each = experiment(name)
        for case in each.cases("gpu", 0) if "gpu" in each.seeds else []:
            if case.training is not None:
                small = toy(case.training)
                found[f"{name}: {case.row}", short_id({**small.as_dict(), "name": ""})] = small
    by_id = {identity: (label, config) for (label, identity), config in found.items()}
    return dict(by_id.values())


TRAININGS = gpu_trainings()


@pytest.mark.parametrize("label", TRAININGS)
def test_a_gpu_training_runs_at_toy_size(label, shared_work):
    config = dataclasses.replace(TRAININGS[label], device="cpu")
    directory = shared_work / "gpu" / short_id({"label": label})
    outcome = train(config, directory, cache_dir=shared_work / "cache", resume=True, command=[])
    assert outcome.status == "finished"
    losses = [row["loss"] for row in read_metrics(directory / METRICS_FILE) if row["kind"] == "train"]
    assert losses and all(math.isfinite(loss) for loss in losses)


def test_the_script_runs_slices_that_resume(tmp_path):
    command = [str(ROOT / "benchmarks" / "gpu_experiments.sh"), "--dry-run", str(tmp_path / "out"), "scale", "table1-3"]
    settings = {"WORK": str(tmp_path / "work"), "CACHE": str(tmp_path / "cache"), "PYTHON": sys.executable}
    environment = {**os.environ, **settings, "OMP_NUM_THREADS": "1"}
    first = subprocess.run([*command[:-1], "no-such"], env=environment, capture_output=True, text=True, timeout=300)
    assert "scale: kept in" in first.stdout
    assert "no-such: ended with 2: " in first.stdout
    rows = (tmp_path / "out" / "results" / "scale.jsonl").read_text()
    assert rows.count("\n") == 2
    again = subprocess.run(command[:-1], env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0
    assert (tmp_path / "out" / "results" / "scale.jsonl").read_text() == rows
    none = subprocess.run(
        command, env={**environment, "LIMIT_SECONDS": "5"}, capture_output=True, text=True, timeout=300
    )
    assert "table1-3: no time left; call again" in none.stdout
