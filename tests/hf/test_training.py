"""The reader's path: fine-tune with Trainer, save, reload, generate, put into a pipeline."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.training.runs import tiny
from torch.utils.data import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)

from reformer.hf import (
    ReformerByteTokenizer,
    ReformerTorchConfig,
    ReformerTorchForCausalLM,
    ReformerTorchForMaskedLM,
    ReformerTorchForSequenceClassification,
    ReformerTorchForTokenClassification,
)
from reformer.training.loop import train
from reformer.training.run_directory import RunError, load_trained

TEXT = "abcdefgh" * 12
SMALL = {
    "d_model": 32,
    "d_ff": 64,
    "n_heads": 2,
    "attention": ("local", "lsh"),
    "n_buckets": 4,
    "pattern": "bucket",
    "lsh_chunk_len": 16,
    "local_chunk_len": 16,
    "axial_shape": (16, 16),
    "embedding_std": 1.0,
}
# Before transformers 5.20 the option had its old name only, which is deprecated since.
_names = {field.name for field in dataclasses.fields(TrainingArguments)}
CHECKPOINTING = {("activation" if "activation_checkpointing" in _names else "gradient") + "_checkpointing": True}


class Texts(Dataset):
    """Tokenised texts, of several lengths."""

    def __init__(self, tokenizer, texts, labels=None):
        self.items = [{**tokenizer(text)} for text in texts]
        for item, label in zip(self.items, labels or [], strict=bool(labels)):
            item["labels"] = label

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def arguments(folder, **changes):
    options = {
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "seed": 0,
    }
    return TrainingArguments(str(folder), **{**options, **changes})


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory):
    """(folder, losses before and after) of a causal model that learned the alphabet's first eight letters."""
    folder = tmp_path_factory.mktemp("fine_tuned")
    torch.manual_seed(0)
    tokenizer = ReformerByteTokenizer()
    model = ReformerTorchForCausalLM(ReformerTorchConfig(bos_token_id=256, pad_token_id=257, **SMALL))
    data = Texts(tokenizer, [TEXT[start : start + 30 + 7 * start] for start in range(8)])
    trainer = Trainer(
        model,
        arguments(folder / "run", max_steps=40, gradient_accumulation_steps=2, **CHECKPOINTING),
        train_dataset=data,
        eval_dataset=data,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_model(str(folder / "model"))
    return folder / "model", before, after


def test_fine_tuning_learns(fine_tuned):
    _, before, after = fine_tuned
    assert before > 4.0
    assert after < 0.3


def test_the_saved_model_generates_what_it_learned(fine_tuned):
    folder, _, _ = fine_tuned
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(tokenizer) is ReformerByteTokenizer and type(model) is ReformerTorchForCausalLM
    inputs = tokenizer(["abcdefghabc", "efghabcdefghabcdefgh"], return_tensors="pt", padding=True)
    for options in ({}, {"num_beams": 2}, {"use_cache": False}):
        ids = model.generate(**inputs, max_new_tokens=12, **options)
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        assert texts == ["abcdefghabcdefghabcdefg", "efghabcdefghabcdefghabcdefghabcd"]


def test_a_pipeline_needs_the_folder_and_one_import(fine_tuned):
    folder, _, _ = fine_tuned
    code = (
        "import sys, reformer.hf, transformers; folder = sys.argv[1];"
        "generator = transformers.pipeline('text-generation', model=folder);"
        "print(generator('abcdefghab', max_new_tokens=8, do_sample=False)[0]['generated_text'])"
    )
    run = [sys.executable, "-W", "error", "-c", code, str(folder)]
    assert subprocess.check_output(run, text=True, stderr=subprocess.DEVNULL).strip() == "abcdefghabcdefghab"


def test_a_pipeline_over_a_batch(fine_tuned):
    generator = pipeline("text-generation", model=str(fine_tuned[0]))
    found = generator(["abcdefghab", "gh"], max_new_tokens=6, do_sample=False, batch_size=2, return_full_text=False)
    assert [item["generated_text"] for (item,) in found] == ["cdefgh", "abcdef"]


def test_a_classifier_learns_what_only_the_last_token_tells(tmp_path):
    tokenizer = ReformerByteTokenizer()
    texts = [("x" * length) + letter for length in range(3, 19) for letter in "ab"]
    labels = [0, 1] * 16
    torch.manual_seed(0)
    model = ReformerTorchForSequenceClassification(ReformerTorchConfig(pad_token_id=257, **SMALL))
    data = Texts(tokenizer, texts, labels)
    trainer = Trainer(
        model,
        arguments(tmp_path / "run", max_steps=30, per_device_eval_batch_size=8),
        train_dataset=data,
        eval_dataset=data,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())},
    )
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] == 1.0
    trainer.save_model(str(tmp_path / "model"))
    classifier = pipeline("text-classification", model=str(tmp_path / "model"))
    found = classifier(["xxxxa", "xxxxxxxxxxb", "xxxxxxxxxb"], batch_size=3)
    assert [item["label"] for item in found] == ["LABEL_0", "LABEL_1", "LABEL_1"]


def test_evaluation_gathers_logits_of_every_token(tmp_path):
    tokenizer = ReformerByteTokenizer()
    model = ReformerTorchForCausalLM(ReformerTorchConfig(**SMALL)).eval()
    data = Texts(tokenizer, [TEXT[:21], TEXT[3:24]])
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    predicted = Trainer(model, arguments(tmp_path), data_collator=collate).predict(data)
    expected = model(torch.tensor([item["input_ids"] for item in data.items])).logits
    assert isinstance(predicted.predictions, np.ndarray)
    np.testing.assert_allclose(predicted.predictions, expected.detach().numpy(), rtol=0, atol=1e-5)


def test_pipelines_of_the_other_heads(tmp_path):
    torch.manual_seed(0)
    model = ReformerTorchForMaskedLM(ReformerTorchConfig(causal=False, **SMALL)).eval()
    model.save_pretrained(tmp_path / "masked")
    ReformerByteTokenizer(masked=True).save_pretrained(tmp_path / "masked")
    found = pipeline("fill-mask", model=str(tmp_path / "masked"))("ab<mask>d", top_k=3)
    scores = model(torch.tensor([[97, 98, 257, 100]])).logits[0, 2].softmax(-1).topk(3)
    assert [item["token"] for item in found] == scores.indices.tolist()
    assert [item["score"] for item in found] == pytest.approx(scores.values.tolist(), abs=1e-6)

    model = ReformerTorchForTokenClassification(ReformerTorchConfig(num_labels=3, **SMALL)).eval()
    model.save_pretrained(tmp_path / "tokens")
    ReformerByteTokenizer().save_pretrained(tmp_path / "tokens")
    found = pipeline("token-classification", model=str(tmp_path / "tokens"), ignore_labels=[])("abc")
    labels = model(torch.tensor([[256, 97, 98, 99]])).logits[0, 1:].argmax(-1)
    assert [item["entity"] for item in found] == [f"LABEL_{label}" for label in labels]


def test_a_run_folder_opens_as_a_transformers_model(tmp_path):
    config = tiny(tmp_path, steps=2, eval_every=2)
    train(config, tmp_path / "run", cache_dir=tmp_path / "cache")
    model = ReformerTorchForCausalLM.from_run(tmp_path / "run")
    _, ours, _ = load_trained(tmp_path / "run")
    tokens = torch.randint(0, 256, (1, 20), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(tokens).logits, ours(tokens))
    assert (model.training, model.config.bos_token_id) == (False, 256)
    with pytest.raises(RunError, match="holds no run"):
        ReformerTorchForCausalLM.from_run(tmp_path / "elsewhere")
