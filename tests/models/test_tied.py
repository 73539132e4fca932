"""Tied embeddings: the head reads the token embeddings, which the state_dict holds once."""

import pytest
import torch
import torch.nn.functional as F
from tests.models.factory import VOCAB, assert_same, loss_and_gradients, some_tokens, tiny
from tests.models.helpers import refuses


def test_logits_are_the_embeddings_against_the_sum_of_both_halves():
    model = tiny(tie_embeddings=True)
    assert [name for name in model.state_dict() if name.startswith("head")] == ["head.bias"]
    hidden = model.hidden(some_tokens(), seed=0)
    first, second = hidden[..., :8], hidden[..., 8:]
    expected = (first + second) @ model.embedding.weight[:VOCAB].t() + model.head.bias
    torch.testing.assert_close(model(some_tokens(), seed=0), expected)


@pytest.mark.parametrize("reversible", [False, True])
def test_the_chunked_loss_and_its_gradients_are_those_of_whole_logits(reversible):
    model = tiny(tie_embeddings=True, reversible=reversible)
    tokens = some_tokens()
    targets = tokens.clone()
    targets[0, :3] = -100
    inputs = model.shift_right(tokens)
    chunked = loss_and_gradients(model, lambda m: m(inputs, targets=targets, seed=0))
    whole = loss_and_gradients(model, lambda m: F.cross_entropy(m(inputs, seed=0).flatten(0, 1), targets.flatten()))
    assert_same(chunked, whole)
    # As a head the embedding gets gradients for tokens that are no input; start and mask are no outputs.
    unused = [i for i in range(VOCAB) if i not in inputs]
    gradient = chunked["embedding.weight"]
    assert gradient is not None and (not unused or gradient[unused].abs().sum() > 0)
    assert gradient[VOCAB].abs().sum() > 0 and gradient[VOCAB + 1].abs().sum() == 0


def test_tying_is_a_choice_of_parameters():
    with refuses(ValueError, "other parameters", "head.weight"):
        tiny().with_changes(tie_embeddings=True)
    changed = tiny(tie_embeddings=True).with_changes(n_hashes=4)
    assert changed.config.tie_embeddings
    fresh = tiny(tie_embeddings=True)
    assert torch.equal(changed.head.bias, fresh.head.bias)


def test_cached_decoding_of_a_tied_model():
    model = tiny(tie_embeddings=True, pattern="bucket").eval()
    tokens = some_tokens()
    state = model.decoding_state(2)
    found = torch.cat([model.decode(tokens[:, :9], state), model.decode(tokens[:, 9:], state)], dim=1)
    torch.testing.assert_close(found, model(tokens))
