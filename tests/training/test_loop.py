"""The training loop: resumed equals uninterrupted to the byte, and nothing finished is ever lost."""

import dataclasses
import json
import math
import os
import signal
import threading

import pytest
import torch
from tests.training.runs import tiny, weights

from reformer.models import ReformerLM
from reformer.ops import as_seed, derive_seed
from reformer.tasks.config import OptimizerConfig
from reformer.tasks.protocol import Evaluated, Measurement
from reformer.tasks.text import TextTask
from reformer.training import loop as loop_module
from reformer.training.card import read_card
from reformer.training.checkpoint import list_checkpoints, read_checkpoint
from reformer.training.loop import TrainingDiverged, train
from reformer.training.metrics import read_metrics
from reformer.training.results import add_results
from reformer.training.run_directory import RunError, load_trained


class Interruption(Exception):
    """Stands for a crash."""


def crash_at(monkeypatch, batch_index):
    """Make the run die when it asks for one batch, as a kill would: nothing is saved on the way out."""
    draw = TextTask.batch

    def batch(self, index):
        if index == batch_index:
            raise Interruption
        return draw(self, index)

    monkeypatch.setattr(TextTask, "batch", batch)


def measured(value):
    return Measurement(metric="bits per byte", value=value, n=1, unit="bytes", protocol="made up")


def as_trained(value):
    return Evaluated(split="test", variant="as-trained", measurement=measured(value))


@pytest.mark.parametrize(
    "optimizer",
    [
        OptimizerConfig(lr=1e-2, warmup_steps=3, weight_decay=0.01),
        OptimizerConfig(name="adam", schedule="constant", lr=1e-2, warmup_steps=3),
        OptimizerConfig(name="adafactor", schedule="rsqrt", lr=0.1, warmup_steps=3, weight_decay=1e-5, clip_norm=None),
    ],
    ids=lambda optimizer: optimizer.name,
)
@pytest.mark.parametrize("crash", [0, 3, 13], ids=["before the first checkpoint", "step 2", "step 7"])
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path, monkeypatch, optimizer, crash):
    config = tiny(tmp_path, optimizer=optimizer)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(config, whole, cache_dir=tmp_path / "cache")
    with monkeypatch.context() as patch:
        crash_at(patch, crash)
        with pytest.raises(Interruption):
            train(config, cut, cache_dir=tmp_path / "cache")
    torch.manual_seed(12345)  # whatever the interrupted process left behind must not matter
    outcome = train(config, cut, cache_dir=tmp_path / "cache", resume=True)
    assert outcome.status == "finished"
    assert weights(cut, 12) == weights(whole, 12)
    assert state_files(whole, 12) == state_files(cut, 12)
    timing = ("tokens_per_second", "peak_memory_bytes", "seconds")
    records = [
        [{k: v for k, v in record.items() if k not in timing} for record in read_metrics(run / "metrics.jsonl")]
        for run in (whole, cut)
    ]
    assert records[0] == records[1]


def state_files(directory, step):
    path = directory / "checkpoints" / f"step-{step:08d}"
    return {file.name: file.read_bytes() for file in path.glob("*.safetensors")}


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_used(tmp_path, capsys):
    config = tiny(tmp_path)
    train(config, tmp_path / "whole", cache_dir=tmp_path / "cache")
    train(dataclasses.replace(config, steps=12), tmp_path / "run", cache_dir=tmp_path / "cache")
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    file = newest / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    capsys.readouterr()
    outcome = train(config, tmp_path / "run", cache_dir=tmp_path / "cache", resume=True)
    said = capsys.readouterr().err
    assert "step-00000012 is refused" in said
    assert "SHA-256" in said
    assert "continuing from step 10" in said
    assert outcome.step == 12
    assert weights(tmp_path / "run", 12) == weights(tmp_path / "whole", 12)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_and_the_rest_is_the_same(tmp_path, monkeypatch, number):
    config = tiny(tmp_path)
    train(config, tmp_path / "whole", cache_dir=tmp_path / "cache")
    draw = TextTask.batch

    def batch(self, index):
        if index == 9:  # in the middle of step 5
            os.kill(os.getpid(), number)
        return draw(self, index)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(TextTask, "batch", batch)
        outcome = train(config, tmp_path / "run", cache_dir=tmp_path / "cache")
    assert (outcome.status, outcome.step, outcome.stopped_by) == ("stopped", 5, signal.Signals(number).name)
    assert signal.getsignal(number) == before
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "step-00000005"
    assert "interrupted (step 5 of 12)" in (tmp_path / "run" / "card.md").read_text()
    train(config, tmp_path / "run", cache_dir=tmp_path / "cache", resume=True)
    assert weights(tmp_path / "run", 12) == weights(tmp_path / "whole", 12)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, poison):
    config = tiny(tmp_path)
    forward = ReformerLM.forward
    calls = []

    def poisoned(self, *arguments, **options):
        calls.append(1)
        loss = forward(self, *arguments, **options)
        return loss * poison if self.training and loss.dim() == 0 and len(calls) > 14 else loss

    monkeypatch.setattr(ReformerLM, "forward", poisoned)
    with pytest.raises(TrainingDiverged, match=r"step \d+: loss (nan|inf).*learning rate too high.*step \d+ is intact"):
        train(config, tmp_path / "run", cache_dir=tmp_path / "cache")
    for path in list_checkpoints(tmp_path / "run" / "checkpoints"):
        assert all(t.isfinite().all() for t in read_checkpoint(path).tensors["model"].values())
    assert "diverged" in (tmp_path / "run" / "card.md").read_text()


def test_an_existing_run_is_not_overwritten(tmp_path):
    config = tiny(tmp_path, steps=2)
    train(config, tmp_path / "run", cache_dir=tmp_path / "cache")
    with pytest.raises(RunError, match=r"already holds a run; continue it with --resume"):
        train(config, tmp_path / "run", cache_dir=tmp_path / "cache")
    changed = dataclasses.replace(config, batch_size=3, model=dataclasses.replace(config.model, n_hashes=4))
    with pytest.raises(RunError, match=r"batch_size: 2 → 3; model.n_hashes: 2 → 4"):
        train(changed, tmp_path / "run", cache_dir=tmp_path / "cache", resume=True)
    before = weights(tmp_path / "run", 2)
    assert train(config, tmp_path / "run", cache_dir=tmp_path / "cache", resume=True).step == 2
    assert weights(tmp_path / "run", 2) == before


def test_two_writers_are_not_allowed(tmp_path):
    config = tiny(tmp_path, steps=2)
    with (
        loop_module.only_writer(tmp_path / "run"),
        pytest.raises(RunError, match="another process is training in"),
    ):
        train(config, tmp_path / "run", cache_dir=tmp_path / "cache")


def test_the_best_checkpoint_outlives_the_newest_ones(tmp_path, monkeypatch):
    scores = iter([5.0, 1.0, 3.0])

    monkeypatch.setattr(TextTask, "validate", lambda task, model: measured(next(scores)))
    train(tiny(tmp_path, keep_last=1), tmp_path / "run", cache_dir=tmp_path / "cache")
    kept = [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert kept == ["step-00000008", "step-00000012"]
    assert load_trained(tmp_path / "run", "best")[2] == 8
    assert load_trained(tmp_path / "run", "latest")[2] == 12


def test_a_step_averages_the_gradients_of_its_passes(tmp_path):
    config = tiny(tmp_path, steps=1, eval_every=1)
    train(config, tmp_path / "run", cache_dir=tmp_path / "cache")
    record = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]

    torch.manual_seed(config.seed)
    model = ReformerLM(config.model).train()
    task = config.make_task(tmp_path / "cache")
    losses = []
    for part in range(2):
        inputs, targets = (torch.from_numpy(array) for array in task.batch(part))
        losses.append(model(inputs, targets=targets, seed=derive_seed(as_seed(config.seed), 1, part)))
    loss = (losses[0] + losses[1]) / 2
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    norm = math.sqrt(sum(g.double().square().sum().item() for g in gradients))
    assert record["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert record["value"] == pytest.approx(loss.item() / math.log(2), rel=1e-6)
    assert record["grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_training_learns_and_a_masked_model_does_too(tmp_path):
    config = tiny(tmp_path, steps=60, eval_every=60, accumulate=1)
    masked = dataclasses.replace(config, objective="masked", model=dataclasses.replace(config.model, causal=False))
    for name, run in (("causal", config), ("masked", masked)):
        outcome = train(run, tmp_path / name, cache_dir=tmp_path / "cache")
        assert outcome.validation.value < 5.0  # the text has few distinct bytes; a uniform guess is 8
    assert "15% of the bytes hidden" in outcome.validation.protocol


def test_bfloat16_autocast_trains_close_to_float32(tmp_path):
    plain = tiny(tmp_path, steps=4, eval_every=4, accumulate=1)
    outcomes = [
        train(dataclasses.replace(plain, autocast=autocast), tmp_path / str(autocast), cache_dir=tmp_path / "cache")
        for autocast in (None, "bfloat16")
    ]
    values = [outcome.validation.value for outcome in outcomes]
    assert values[0] != values[1]
    assert values[0] == pytest.approx(values[1], rel=0.02)


def test_a_run_outside_the_main_thread_works(tmp_path):
    outcomes = []
    config = tiny(tmp_path, steps=2)
    thread = threading.Thread(
        target=lambda: outcomes.append(train(config, tmp_path / "run", cache_dir=tmp_path / "cache"))
    )
    thread.start()
    thread.join()
    assert outcomes[0].status == "finished"


def test_compiled_training_matches(tmp_path):
    plain = tiny(tmp_path, steps=2, eval_every=2, accumulate=1)
    plain = dataclasses.replace(plain, model=dataclasses.replace(plain.model, attention=("lsh",)))
    compiled = dataclasses.replace(plain, compile=True)
    losses = []
    for name, config in (("plain", plain), ("compiled", compiled)):
        train(config, tmp_path / name, cache_dir=tmp_path / "cache")
        losses.append([r["loss"] for r in read_metrics(tmp_path / name / "metrics.jsonl") if r["kind"] == "train"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_finished_run_asked_for_again_keeps_its_card_and_what_was_measured_since(tmp_path):
    config, run = tiny(tmp_path), tmp_path / "run"
    train(config, run, cache_dir=tmp_path / "cache")
    add_results(run, [as_trained(3.25)], 12, ["reformer", "eval"])
    card, metrics = (run / "card.json").read_bytes(), (run / "metrics.jsonl").read_bytes()
    assert b"3.25" in card
    outcome = train(config, run, cache_dir=tmp_path / "cache", resume=True)
    assert (outcome.status, outcome.step) == ("finished", 12)
    assert math.isfinite(outcome.validation.value)
    assert (run / "card.json").read_bytes() == card
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_a_run_continued_by_other_code_names_both(tmp_path, monkeypatch):
    config, run = tiny(tmp_path), tmp_path / "run"
    for commit, crash in (("a", 7), ("b", 15), ("b", None)):
        monkeypatch.setattr(loop_module, "code_version", lambda commit=commit: {"commit": commit, "dirty": False})
        with monkeypatch.context() as patch:
            if crash is None:
                train(config, run, cache_dir=tmp_path / "cache", resume=True)
                continue
            crash_at(patch, crash)
            with pytest.raises(Interruption):
                train(config, run, cache_dir=tmp_path / "cache", resume=True)
    assert read_card(run)["code"] == {"commit": "b", "dirty": False, "earlier_commits": ["a"]}


def test_torn_results_are_kept_aside_and_cost_nothing_new(tmp_path):
    (tmp_path / "eval.json").write_text('[{"split": "te')
    (tmp_path / "card.json").write_text('{"status": ')
    said = []
    add_results(tmp_path, [as_trained(1.5)], 1, ["reformer", "eval"], notice=said.append)
    (kept,) = json.loads((tmp_path / "eval.json").read_text())
    assert (kept["metric"], kept["value"]) == ("bits per byte", 1.5)
    assert (tmp_path / "eval.json.damaged").read_text() == '[{"split": "te'
    assert len(said) == 2
    assert all("damaged" in line for line in said)
