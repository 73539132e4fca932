"""Another vocabulary: ids keep their rows, start and mask follow it, and logits of old tokens stay."""

import pytest
import torch
from tests.hf.helpers import wrapped
from tests.models.factory import some_tokens
from tests.models.helpers import refuses

from reformer.hf import ReformerTorchForCausalLM, ReformerTorchForSequenceClassification, ReformerTorchModel
from reformer.models import ReformerLM


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("size", [12, 13, 20])
def test_growing_keeps_every_id(tied, size):
    model = wrapped(ReformerTorchForCausalLM, tie_embeddings=tied)
    tokens = torch.cat([some_tokens(2, 10), torch.tensor([[11, 12], [12, 11]])], dim=1)  # start and mask too
    before, rows = model(tokens).logits, model.get_input_embeddings().weight.detach().clone()
    embedding = model.resize_token_embeddings(size)
    assert embedding is model.get_input_embeddings() and embedding.weight.shape == (size + 2, 8)
    assert embedding.num_embeddings == size + 2
    kept = min(13, size)
    assert torch.equal(embedding.weight[:kept], rows[:kept])
    assert torch.equal(embedding.weight[-2:], rows[-2:])
    torch.testing.assert_close(embedding.weight[13:-2], rows[:11].mean(0).expand(max(0, size - 13), 8))
    if size >= 13:
        after = model(tokens).logits
        assert after.shape[-1] == size
        torch.testing.assert_close(after[..., :11], before)
    assert (model.config.vocab_size, model.reformer.trunk.config.start_id) == (size, size)
    if not tied:
        assert model.lm_head.out_features == size
        torch.testing.assert_close(model.lm_head.weight[11:], model.lm_head.weight[:11].mean(0).expand(size - 11, 16))
    torch.testing.assert_close(model.lm_head.bias[11:], model.lm_head.bias[:11].mean().expand(size - 11))


@pytest.mark.parametrize("tied", [False, True])
def test_shrinking_drops_the_last_tokens(tied):
    model = wrapped(ReformerTorchForCausalLM, tie_embeddings=tied)
    tokens = some_tokens(2, 10) % 7
    before, rows = model(tokens).logits, model.get_input_embeddings().weight.detach().clone()
    model.resize_token_embeddings(7)
    torch.testing.assert_close(model(tokens).logits, before[..., :7])
    assert torch.equal(model.get_input_embeddings().weight, torch.cat([rows[:7], rows[-2:]]))


def test_a_resized_model_trains_saves_and_is_a_model_like_any_other(tmp_path):
    model = wrapped(ReformerTorchForCausalLM).float()
    model.resize_token_embeddings(14, pad_to_multiple_of=8)
    assert model.config.vocab_size == 16
    tokens = torch.randint(0, 16, (2, 12), generator=torch.Generator().manual_seed(0))
    model.train()(tokens, labels=tokens).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval().save_pretrained(tmp_path)
    again = ReformerTorchForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    ours = ReformerLM(again.config.to_reformer())
    ours.load_state_dict(
        {n.removeprefix("reformer.trunk.").replace("lm_", ""): p for n, p in again.state_dict().items()}
    )
    assert torch.equal(ours.eval()(tokens), model(tokens).logits)


def test_drawn_rows_frozen_rows_and_models_without_a_head():
    torch.manual_seed(0)
    model = wrapped(ReformerTorchForCausalLM)
    model.get_input_embeddings().requires_grad_(False)
    model.resize_token_embeddings(2011, mean_resizing=False)
    drawn = model.get_input_embeddings().weight[13:-2]
    assert not drawn.requires_grad and model.lm_head.weight.requires_grad
    assert drawn.std().item() == pytest.approx(model.config.embedding_std, rel=0.05)
    assert torch.equal(model.lm_head.bias[11:], torch.zeros(2000))
    assert model.lm_head.weight[11:].std().item() == pytest.approx((2 / (16 + 2011)) ** 0.5, rel=0.05)
    for kind in (ReformerTorchModel, ReformerTorchForSequenceClassification):
        model = wrapped(kind)
        assert model.get_output_embeddings() is None
        before = model(some_tokens())[0]
        model.resize_token_embeddings(30)
        assert torch.equal(model(some_tokens())[0], before)
    model = wrapped(ReformerTorchModel)
    assert model.resize_token_embeddings() is model.get_input_embeddings()
    assert model.config.vocab_size == 11
    with refuses(ValueError, "vocab_size must be at least 1", "got 0"):
        model.resize_token_embeddings(0)


def test_embeddings_can_be_replaced():
    model = wrapped(ReformerTorchForCausalLM, tie_embeddings=True)
    other = torch.nn.Embedding(13, 8, dtype=torch.float64)
    before = model(some_tokens()).logits
    model.set_input_embeddings(other)
    assert model.get_input_embeddings() is other is model.reformer.trunk.embedding
    assert not torch.allclose(model(some_tokens()).logits, before)
