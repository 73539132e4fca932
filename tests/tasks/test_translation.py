"""Translation runs: batches and losses against the definition, resumed to the byte, BLEU with its control."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.pairs.files import some_pairs, write_folder
from tests.training.runs import weights

from reformer.cli.main import main
from reformer.data.pairs.vocabulary import END_ID
from reformer.models import EncoderDecoderConfig, ReformerConfig
from reformer.tasks.config import OptimizerConfig
from reformer.tasks.registry import RECIPES, config_from_dict
from reformer.tasks.text import TextConfig
from reformer.tasks.translation import (
    BeamOptions,
    PackedTranslationConfig,
    TranslationConfig,
    TranslationTask,
    bleu_rows,
    evaluation,
)
from reformer.training.loop import train
from reformer.training.run_directory import RunError, load_trained

COMMON = {
    "seq_len": 40,
    "batch_tokens": 128,
    "steps": 6,
    "eval_every": 3,
    "eval_bytes": 60,
    "checkpoint_every": 2,
    "log_every": 1,
    "keep_last": 3,
    "optimizer": OptimizerConfig(name="adam", lr=3e-3, warmup_steps=3),
}
MODEL = {"vocab_size": 300, "d_model": 16, "d_ff": 32, "n_heads": 2, "dropout": 0.1, "positions": "sinusoidal"}


def tiny(tmp_path, **changes) -> TranslationConfig:
    folder = tmp_path / "pairs"
    if not folder.exists():
        write_folder(folder)
    model = EncoderDecoderConfig(**MODEL, shared_qk=False)
    return TranslationConfig(**{**COMMON, "name": "tiny", "data": str(folder), "model": model, **changes})


def packed(tmp_path, **changes) -> PackedTranslationConfig:
    base = tiny(tmp_path)
    model = ReformerConfig(
        **MODEL, attention=("lsh", "local"), pattern="bucket", n_buckets=4, lsh_chunk_len=8, local_chunk_len=8
    )
    return PackedTranslationConfig(**{**COMMON, "name": "tiny", "data": base.data, "model": model, **changes})


def task_of(config: TranslationConfig, tmp_path) -> TranslationTask:
    return config.make_task(tmp_path / "cache")


def test_a_batch_is_the_pairs_with_their_end_tokens(tmp_path):
    task = task_of(tiny(tmp_path), tmp_path)
    decode, pairs = task.pairs.vocabulary.decode, task.pairs.text("train")
    for index in (0, 3, 17):
        source, source_ids, inputs, ids, targets = task.batch(index)
        assert source.dtype == targets.dtype == np.int64
        assert ((targets == -100) == (ids < 0)).all()
        for row in range(len(source)):
            s, t = source[row][source_ids[row] >= 0], targets[row][ids[row] >= 0]
            assert (decode(s.tolist()), decode(t.tolist())) in pairs
            assert s[-1] == t[-1] == END_ID
            assert inputs[row, : len(t)].tolist() == [task.config.model.start_id, *t[:-1].tolist()]


def test_a_packed_batch_is_source_and_target_in_one_sequence(tmp_path):
    task = task_of(packed(tmp_path), tmp_path)
    decode, pairs = task.pairs.vocabulary.decode, task.pairs.text("train")
    for index in (0, 5):
        inputs, ids, targets = task.batch(index)
        for row in range(len(inputs)):
            wanted = targets[row] != -100
            real = ids[row] >= 0
            # What is predicted is the end of the sequence, and the source stands before it.
            first = int(wanted.argmax())
            assert wanted[real].tolist() == [i >= first for i in range(int(real.sum()))]
            sentence = inputs[row][real][1 : first + 1].tolist()
            assert inputs[row, 0] == task.config.model.start_id and sentence[-1] == END_ID
            assert (decode(sentence), decode(targets[row][wanted].tolist())) in pairs


@pytest.mark.parametrize("make", [tiny, packed])
def test_the_loss_is_the_smoothed_mean_over_the_target_tokens(tmp_path, make):
    task = task_of(make(tmp_path, label_smoothing=0.2), tmp_path)
    torch.manual_seed(0)
    model = task.config.make_model().eval()
    batch = tuple(torch.from_numpy(array) for array in task.batch(0))
    found = task.loss(model, batch, torch.tensor(0))
    if len(batch) == 3:
        logits = model(batch[0], segment_ids=batch[1], seed=0)
    else:
        logits = model(batch[0], batch[2], source_segment_ids=batch[1], segment_ids=batch[3], seed=0)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[-1].flatten(), label_smoothing=0.2)
    torch.testing.assert_close(found, expected)


def nats_of(task, model, source, target):
    """The negative log-likelihood of one pair's target, the plain way."""
    start = task.config.model.start_id
    source, target = torch.tensor([source.tolist()]), torch.tensor([target.tolist()])
    with torch.inference_mode():
        if isinstance(task.config, PackedTranslationConfig):
            both = torch.cat([source, target], dim=1)
            logits = model(torch.cat([torch.full_like(both[:, :1], start), both[:, :-1]], dim=1), seed=0)
            logits = logits[:, source.shape[1] :]
        else:
            logits = model(source, torch.cat([torch.full_like(target[:, :1], start), target[:, :-1]], dim=1), seed=0)
    return torch.nn.functional.cross_entropy(logits[0].double(), target[0], reduction="sum").item()


@pytest.mark.parametrize("make", [tiny, packed])
def test_bits_per_byte_are_those_of_the_pairs_one_by_one(tmp_path, make):
    task = task_of(make(tmp_path), tmp_path)
    torch.manual_seed(0)
    model = task.config.make_model().train()
    found = task.evaluate(model, "validation", 60)
    assert model.training
    nats, n_bytes, row = 0.0, 0, 0
    source, target = task.pairs.sentences("validation")
    while n_bytes < 60:
        nats += nats_of(task, model.eval(), source[row], target[row])
        n_bytes += len(task.pairs.text("validation")[row][1].encode())
        row += 1
    assert found.n == n_bytes
    assert found.value == pytest.approx(nats / np.log(2) / n_bytes, rel=1e-5)
    assert f"first {row} validation pairs" in found.protocol


@pytest.mark.parametrize("make", [tiny, packed])
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path, monkeypatch, make):
    config = make(tmp_path)
    train(config, tmp_path / "whole", cache_dir=tmp_path / "cache")
    draw = TranslationTask.batch

    def batch(self, index):
        if index == 5:
            raise KeyError("a crash")
        return draw(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(TranslationTask, "batch", batch)
        with pytest.raises(KeyError):
            train(config, tmp_path / "cut", cache_dir=tmp_path / "cache")
    torch.manual_seed(99)
    train(config, tmp_path / "cut", cache_dir=tmp_path / "cache", resume=True)
    assert weights(tmp_path / "cut", 6) == weights(tmp_path / "whole", 6)


def test_eval_prints_bleu_with_signature_and_control(tmp_path, capsys):
    config = tiny(tmp_path)
    run = tmp_path / "run"
    train(config, run, cache_dir=tmp_path / "cache")
    capsys.readouterr()
    command = ["eval", str(run), "--splits", "validation", "--limit", "4", "--num-beams", "1", "2", "--average", "2"]
    assert main([*command, "--cache-dir", str(tmp_path / "cache")]) == 0
    said = capsys.readouterr().out
    for fact in ("greedy, sources shuffled", "beam 2, alpha 0.6", "BLEU uncased", "case:lc", "case:mixed", "version:"):
        assert fact in said, fact
    assert "the first 4 of the 7 pairs of validation" in said
    assert "mean of the checkpoints of steps 4, 6" in said
    rows = json.loads((run / "eval.json").read_text())
    assert len(rows) == 8 and all(row["signature"] for row in rows)
    assert "BLEU cased (beam 2, alpha 0.6)" in (run / "card.md").read_text()
    assert main(["eval", str(run), "--splits", "nothing"]) == 2
    capsys.readouterr()
    sentences = [source for source, _ in task_of(config, tmp_path).pairs.text("validation")[:3]]
    # Longest first, an empty line between them: each stays in its place, and is what that sentence alone gives.
    text = f"{max(sentences, key=len)}\n\n{min(sentences, key=len)}\n"
    options = ["--num-beams", "2", "--average", "2", "--cache-dir", str(tmp_path / "cache")]
    assert main(["generate", str(run), "--prompt", text, *options]) == 0
    first, empty, last = capsys.readouterr().out.splitlines()
    assert empty == "" and first != last
    for sentence, translation in ((max(sentences, key=len), first), (min(sentences, key=len), last)):
        assert main(["generate", str(run), "--prompt", sentence, *options]) == 0
        assert capsys.readouterr().out == translation + "\n"
    for name in ("eval", "generate"):
        assert main([name, str(run), "--average", "2", "--checkpoint", "best"]) == 2
        assert "leave --checkpoint best or --average out" in capsys.readouterr().err
    assert main(["generate", str(run), "--prompt", " "]) == 2
    assert "give sentences, one a line" in capsys.readouterr().err
    with pytest.raises(RunError, match="translates"):
        load_trained(run)


def test_bleu_of_perfect_translations_is_100_and_the_control_is_not(tmp_path, monkeypatch):
    task = task_of(tiny(tmp_path), tmp_path)

    def perfect(pairs, model, split, rows, options, progress):
        return [pairs.text(split)[row][1] for row in rows], -0.5

    monkeypatch.setattr(evaluation, "translations", perfect)
    rows = list(bleu_rows(task.pairs, None, "train", BeamOptions(), limit=50))  # type: ignore[arg-type]
    values = {(row.variant, row.measurement.metric): row.measurement.value for row in rows}
    assert values["beam 4, alpha 0.6", "BLEU cased"] == pytest.approx(100.0)
    assert values["beam 4, alpha 0.6, sources shuffled", "BLEU cased"] < 60.0
    assert not any("left out" in row.measurement.protocol for row in rows)


def test_pairs_that_are_not_scored_are_named(tmp_path, monkeypatch):
    config = tiny(tmp_path)
    for lang in ("en", "de"):
        path = Path(config.data) / f"validation.{lang}"
        path.write_text(path.read_text() + ("words\n" if lang == "en" else "\n"))
    task = task_of(config, tmp_path)
    monkeypatch.setattr(evaluation, "translations", lambda pairs, model, split, rows, *_: ([*"aaaaaaa"], 0))
    row = next(bleu_rows(task.pairs, None, "validation", BeamOptions(), limit=50))  # type: ignore[arg-type]
    assert (
        "all of the 7 pairs of validation (1 of validation left out, which have an empty side)"
        in row.measurement.protocol
    )


def test_only_the_first_training_pairs(tmp_path):
    task = task_of(tiny(tmp_path, train_pairs=7), tmp_path)
    allowed = {source for source, _ in some_pairs(7)}
    seen = set()
    for index in range(task.batches.per_epoch):
        source, ids, *_ = task.batch(index)
        seen |= {task.pairs.vocabulary.decode(s[i >= 0].tolist()) for s, i in zip(source, ids)}
    assert seen == allowed
    assert task.bytes_per_token == pytest.approx(sum(len(t) for _, t in some_pairs(7)) / task.target.lengths[:7].sum())


@pytest.mark.parametrize("make", [tiny, packed])
def test_configs_come_back_from_their_values(tmp_path, make):
    config = make(tmp_path)
    values = json.loads(json.dumps(config.as_dict()))
    assert config_from_dict(values) == config
    assert type(config_from_dict(values)) is type(config)
    assert type(config_from_dict(TextConfig(name="x").as_dict())) is TextConfig


def test_recipes_differ_in_what_they_say_they_do():
    small = RECIPES["translation-small"]()
    ordinary = RECIPES["translation-small-ordinary"]()
    assert dataclasses.replace(ordinary, name=small.name, model=small.model) == small
    assert dataclasses.replace(ordinary.model, reversible=True, streams=2) == small.model
    base = RECIPES["wmt14-base-reversible"]().model
    assert (base.d_model, base.d_ff, base.n_heads, base.attention) == (512, 2048, 8, ("full",) * 6)
    assert not base.shared_qk and base.tie_embeddings and base.source_vocab_size is None


def test_sizes_and_fractions_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_tokens must be at least 40"):
        tiny(tmp_path, batch_tokens=39)
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\)"):
        tiny(tmp_path, label_smoothing=1.0)
    with pytest.raises(ValueError, match="length 80 is beyond the 50 positions"):
        packed(tmp_path, model=dataclasses.replace(packed(tmp_path).model, positions="learned", max_len=50))
