"""Every model against ReformerLM, and what padding, seeds and flags may change: nothing, or one thing."""

import logging

import pytest
import torch
from tests.hf.helpers import ALL, IDS, outputs, padded, wrapped
from tests.models.factory import some_tokens, tiny
from tests.models.helpers import refuses

from reformer.hf import ReformerTorchConfig, ReformerTorchForCausalLM, ReformerTorchForMaskedLM, ReformerTorchModel


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("kind", "causal"), [(ReformerTorchForCausalLM, True), (ReformerTorchForMaskedLM, False)])
def test_logits_are_those_of_the_language_model(kind, causal, tied):
    lm = tiny(causal=causal, tie_embeddings=tied).eval()
    tokens = some_tokens()
    model = kind.from_reformer(lm)
    assert torch.equal(model(tokens).logits, lm(tokens))
    assert torch.equal(model(tokens, seed=7).logits, lm(tokens, seed=7))
    assert torch.equal(model.reformer(tokens).last_hidden_state, lm.hidden(tokens))
    ids, mask = padded(tokens, 3, 2)
    assert torch.equal(model(ids, attention_mask=mask).logits, lm(ids, segment_ids=mask - 1))


@pytest.mark.parametrize(("kind", "causal"), ALL, ids=IDS)
@pytest.mark.parametrize("pattern", ["paper", "bucket"])
def test_padding_on_either_side_is_inert(kind, causal, pattern):
    model = wrapped(kind, causal, pattern=pattern)
    tokens = some_tokens(2, 21)
    with torch.no_grad():
        alone = outputs(model, tokens, None, 0, 21)
        for left, right in ((0, 0), (6, 0), (0, 9), (4, 3)):
            ids, mask = padded(tokens, left, right)
            for found, expected in zip(outputs(model, ids, mask, left, 21), alone, strict=True):
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
            found = outputs(model, ids, mask.bool(), left, 21)
            assert all(torch.equal(a, b) for a, b in zip(found, outputs(model, ids, mask, left, 21)))
        # The mask is what makes it so.
        unmasked = outputs(model, *(padded(tokens, 6, 0)[0], None), 6, 21)
        assert not torch.allclose(unmasked[0], alone[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("kind", "causal"), ALL, ids=IDS)
def test_embeddings_in_place_of_ids(kind, causal):
    model = wrapped(kind, causal)
    tokens = some_tokens()
    by_id = model(tokens)
    by_vector = model(inputs_embeds=model.get_input_embeddings()(tokens))
    assert by_id.keys() == by_vector.keys()
    assert all(torch.equal(by_id[name], by_vector[name]) for name in by_id)


def test_positions_can_be_given():
    model = wrapped(ReformerTorchModel)
    tokens = some_tokens(1, 12)
    usual = model(tokens).last_hidden_state
    assert torch.equal(model(tokens, position_ids=torch.arange(12)[None]).last_hidden_state, usual)
    assert not torch.allclose(model(tokens, position_ids=torch.arange(12)[None] + 9).last_hidden_state, usual)


def test_evaluation_repeats_and_leaves_the_global_generator_alone():
    lm = tiny(attention=("lsh", "lsh")).eval()
    tokens = some_tokens()
    model = ReformerTorchModel.from_reformer(lm, hash_seed=3)
    before = torch.get_rng_state()
    assert torch.equal(model(tokens).last_hidden_state, lm.hidden(tokens, seed=3))
    assert not torch.allclose(model(tokens).last_hidden_state, lm.hidden(tokens, seed=4))
    assert torch.equal(torch.get_rng_state(), before)
    model.train()
    torch.manual_seed(0)
    first, second = model(tokens).last_hidden_state, model(tokens).last_hidden_state
    torch.manual_seed(0)
    assert torch.equal(model(tokens).last_hidden_state, first)
    assert not torch.allclose(first, second)


def test_a_tuple_instead_of_a_named_output():
    model = wrapped(ReformerTorchForCausalLM)
    tokens = some_tokens()
    (logits,) = model(tokens, return_dict=False)
    assert torch.equal(logits, model(tokens).logits)


def test_what_the_models_refuse():
    model = wrapped(ReformerTorchForCausalLM)
    tokens = some_tokens(2, 8)
    for shape in ((2, 9), (1, 8), (2, 1, 8, 8)):
        with refuses(ValueError, "attention_mask must have the shape [batch, length] = [2, 8]", f"got {list(shape)}"):
            model(tokens, attention_mask=torch.ones(shape))
    with refuses(ValueError, "exactly one of input_ids and inputs_embeds"):
        model()
    with refuses(ValueError, "exactly one of input_ids and inputs_embeds"):
        model(tokens, inputs_embeds=torch.zeros(2, 8, 8))
    with refuses(ValueError, "labels must have the shape", "[2, 8]", "got [2, 7]"):
        model(tokens, labels=tokens[:, 1:])
    with refuses(ValueError, "length 129", "128 positions"):
        model(torch.zeros(1, 129, dtype=torch.long))
    for name in ("output_hidden_states", "output_attentions"):
        with refuses(ValueError, f"{name}=True", "last_hidden_state"):
            model(tokens, **{name: True})
    with refuses(ValueError, "causal=True", "ForMaskedLM"):
        ReformerTorchForCausalLM(ReformerTorchConfig(causal=False))
    with refuses(ValueError, "causal=False", "ForCausalLM"):
        ReformerTorchForMaskedLM.from_reformer(tiny())


def enable_checkpointing(model):
    # The second name is the only one before transformers 5.20, and deprecated later.
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()


def test_gradient_checkpointing_changes_nothing_and_says_so_once(caplog):
    logging.Logger.warning_once.cache_clear()
    model = wrapped(ReformerTorchForCausalLM).train()
    tokens = some_tokens()

    def gradients():
        model.zero_grad()
        model(tokens, labels=tokens, seed=1).loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    usual = gradients()
    enable_checkpointing(model)
    enable_checkpointing(model)
    assert all(torch.equal(a, b) for a, b in zip(gradients(), usual, strict=True))
    assert [record.message for record in caplog.records if record.name == "reformer.hf.modeling"] == [
        "gradient checkpointing changes nothing here: reversible layers recompute already"
    ]


def test_gradient_checkpointing_makes_a_plain_stack_recompute():
    model = wrapped(ReformerTorchModel, reversible=False)
    assert not model.trunk.stack.reversible
    enable_checkpointing(model)
    assert model.trunk.stack.reversible
    model.gradient_checkpointing = False
    assert not model.trunk.stack.reversible


def test_gradient_checkpointing_of_one_stream_is_refused():
    model = wrapped(ReformerTorchModel, reversible=False, streams=1)
    with refuses(ValueError, "streams=1", "leave gradient checkpointing off"):
        enable_checkpointing(model)
