"""Files: the same bytes back, each tensor once, nothing missing, and new heads initialised as ours."""

import math
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.hf.helpers import ALL, IDS, wrapped
from tests.models.factory import some_tokens, tiny
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from reformer.hf import (
    ReformerTorchConfig,
    ReformerTorchForCausalLM,
    ReformerTorchForSequenceClassification,
    ReformerTorchModel,
)
from reformer.models import ReformerLM

AUTO = {
    "Model": AutoModel,
    "ForCausalLM": AutoModelForCausalLM,
    "ForMaskedLM": AutoModelForMaskedLM,
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForTokenClassification": AutoModelForTokenClassification,
    "ForQuestionAnswering": AutoModelForQuestionAnswering,
}


def loaded(auto, folder, **options):
    """(model, {what: keys} that the loading reported, without what was empty)."""
    model, report = auto.from_pretrained(folder, output_loading_info=True, **options)
    return model, {what: set(keys) for what, keys in report.items() if keys}


@pytest.mark.parametrize(("kind", "causal"), ALL, ids=IDS)
@pytest.mark.parametrize("tied", [False, True])
def test_a_model_comes_back_as_it_was_saved(kind, causal, tied, tmp_path):
    model = wrapped(kind, causal, tie_embeddings=tied)
    model.save_pretrained(tmp_path / "one")
    stored = load_file(tmp_path / "one" / "model.safetensors")
    assert stored.keys() == {name for name, _ in model.named_parameters()} == model.state_dict().keys()
    again, report = loaded(AUTO[kind.__name__.removeprefix("ReformerTorch")], tmp_path / "one")
    assert type(again) is kind and report == {}
    assert not again.training
    assert again.dtype == torch.float64
    again.save_pretrained(tmp_path / "two")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    tokens = some_tokens()
    for found, expected in zip(again(tokens).values(), model(tokens).values(), strict=True):
        # Not equal: tensors in a mapped file are aligned otherwise, and products round accordingly.
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_tied_embeddings_are_stored_once(tmp_path):
    model = wrapped(ReformerTorchForCausalLM, tie_embeddings=True)
    model.save_pretrained(tmp_path)
    shapes = {name: tuple(value.shape) for name, value in load_file(tmp_path / "model.safetensors").items()}
    assert [name for name, shape in shapes.items() if shape[0] in (11, 13)] == [
        "lm_head.bias",
        "reformer.trunk.embedding.weight",
    ]
    with torch.no_grad():
        hidden = model.reformer(some_tokens()).last_hidden_state
        embedding = model.get_input_embeddings().weight
        expected = (hidden[..., :8] + hidden[..., 8:]) @ embedding[:11].t() + model.lm_head.bias
    torch.testing.assert_close(model(some_tokens()).logits, expected)


def test_a_headless_checkpoint_gets_a_new_head_and_nothing_else(tmp_path):
    trunk = wrapped(ReformerTorchModel)
    trunk.save_pretrained(tmp_path)
    torch.manual_seed(0)
    model, report = loaded(AutoModelForSequenceClassification, tmp_path, num_labels=40)
    assert report == {"missing_keys": {"classifier.weight", "classifier.bias"}}
    for name, value in trunk.state_dict().items():
        assert torch.equal(model.reformer.state_dict()[name], value), name
    bound = math.sqrt(6 / (16 + 40))  # Xavier, uniform
    weight = model.classifier.weight.abs()
    assert bound * 0.9 < weight.max() < bound and abs(weight.mean() / bound - 0.5) < 0.05
    assert 0 < model.classifier.bias.abs().max() < 1 / math.sqrt(16)


def test_a_language_model_lends_its_trunk_to_a_classifier(tmp_path):
    lm = wrapped(ReformerTorchForCausalLM)
    lm.save_pretrained(tmp_path)
    model, report = loaded(AutoModelForSequenceClassification, tmp_path)
    assert report == {
        "missing_keys": {"classifier.weight", "classifier.bias"},
        "unexpected_keys": {"lm_head.weight", "lm_head.bias"},
    }
    tokens = some_tokens()
    assert torch.equal(model.reformer(tokens).last_hidden_state, lm.reformer(tokens).last_hidden_state)


@pytest.mark.parametrize("options", [{}, {"positions": "learned"}, {"activation": "swiglu", "tie_embeddings": True}])
def test_a_new_model_starts_as_ours_does(options):
    config = ReformerTorchConfig(d_model=64, vocab_size=50, axial_shape=(32, 32), embedding_std=0.5, **options)
    torch.manual_seed(0)
    ours = ReformerLM(config.to_reformer())
    model = ReformerTorchForCausalLM(config)
    mine = dict(ours.named_parameters())
    for name, parameter in model.named_parameters():
        expected = mine[name.removeprefix("reformer.trunk.").replace("lm_head", "head")]
        assert parameter.shape == expected.shape
        # As many draws of one distribution: they agree as far as so many can tell; constants are equal.
        error = 5.0 * expected.std().item() * math.sqrt(2 / expected.numel())
        assert parameter.mean().item() == pytest.approx(expected.mean().item(), abs=error + 1e-9), name
        assert parameter.std().item() == pytest.approx(expected.std().item(), abs=error + 1e-9), name


def test_nothing_of_an_empty_checkpoint_is_left_uninitialised(tmp_path):
    # Loading builds on the meta device; what no file gives must be initialised, not whatever memory held.
    config = ReformerTorchConfig(d_model=16, vocab_size=20, axial_shape=(4, 8), n_heads=2)
    ReformerTorchForCausalLM(config).save_pretrained(tmp_path)
    save_file({"reformer.trunk.norm.bias": torch.full((32,), 0.25)}, tmp_path / "model.safetensors", {"format": "pt"})
    model, report = loaded(AutoModelForCausalLM, tmp_path)
    assert len(report["missing_keys"]) == len(list(model.parameters())) - 1
    assert torch.equal(model.reformer.trunk.norm.bias, torch.full((32,), 0.25))
    for name, parameter in model.named_parameters():
        assert parameter.device.type == "cpu" and parameter.isfinite().all(), name
        if name.endswith("norm.weight"):
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif parameter.dim() > 1:
            assert 0.01 < parameter.std() < 1.0, name
    assert not list(model.buffers())
    assert model(torch.zeros(1, 8, dtype=torch.long)).logits.isfinite().all()


@pytest.mark.parametrize(("kind", "causal"), ALL, ids=IDS)
def test_a_folder_with_the_feed_forwards_earlier_names_opens_and_opens_again(kind, causal, tmp_path):
    model, tokens = wrapped(kind, causal), some_tokens()
    model.save_pretrained(tmp_path / "one")
    file = tmp_path / "one" / "model.safetensors"
    today = load_file(file)
    earlier = {re.sub(r"\.([wb])(_in|_out)\.(weight|bias)$", earlier_name, name): x for name, x in today.items()}
    assert len(today.keys() - earlier.keys()) == 4 * len(model.config.attention)
    save_file(earlier, file, {"format": "pt"})
    auto = AUTO[kind.__name__.removeprefix("ReformerTorch")]
    again, report = loaded(auto, tmp_path / "one")
    assert report == {}
    again.save_pretrained(tmp_path / "two")
    third, report = loaded(auto, tmp_path / "two")
    assert report == {}
    for found in (again, third):
        for name, value in model.state_dict().items():
            assert torch.equal(found.state_dict()[name], value), name
        for one, other in zip(found(tokens).values(), model(tokens).values(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def earlier_name(name):
    """w_in.weight was w_in, w_in.bias was b_in."""
    return f".{'w' if name[3] == 'weight' else 'b'}{name[2]}"


def test_another_dtype(tmp_path):
    model = wrapped(ReformerTorchForCausalLM)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.bfloat16}
    tokens = some_tokens()
    torch.testing.assert_close(again(tokens).logits.double(), model(tokens).logits, rtol=0.1, atol=0.2)


def test_wrapping_copies():
    lm = tiny()
    model = ReformerTorchForSequenceClassification.from_reformer(lm)
    assert model.training
    with torch.no_grad():
        lm.embedding.weight.zero_()
    assert model.get_input_embeddings().weight.abs().sum() > 0
