"""What each head reads, its loss as torch computes it, and that gradients reach every parameter."""

import pytest
import torch
import torch.nn.functional as F
from tests.hf.helpers import ALL, padded, wrapped
from tests.models.factory import some_tokens

from reformer.hf import (
    ReformerTorchForCausalLM,
    ReformerTorchForMaskedLM,
    ReformerTorchForQuestionAnswering,
    ReformerTorchForSequenceClassification,
    ReformerTorchForTokenClassification,
)


def labels_of(model, ids):
    if isinstance(model, ReformerTorchForSequenceClassification):
        return {"labels": torch.arange(ids.shape[0]) % 3}
    if isinstance(model, ReformerTorchForQuestionAnswering):
        return {"start_positions": torch.tensor([2, 5]), "end_positions": torch.tensor([7, 5])}
    return {"labels": ids % 3}


@pytest.mark.parametrize(("kind", "causal"), [pair for pair in ALL if "For" in pair[0].__name__])
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_reach_every_parameter(kind, causal, tied):
    model = wrapped(kind, causal, tie_embeddings=tied).train()
    ids, mask = padded(some_tokens(2, 25), 3, 4)
    model(ids, attention_mask=mask, seed=0, **labels_of(model, ids)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("sides", [(0, 0), (4, 0), (0, 4), (3, 2)])
def test_a_causal_classifier_reads_the_last_real_token(sides):
    model = wrapped(ReformerTorchForSequenceClassification)
    tokens = some_tokens(3, 12)
    ids, mask = padded(tokens, *sides)
    last = sides[0] + 11
    logits = model(ids, attention_mask=mask).logits
    expected = model.classifier(model.reformer(ids, attention_mask=mask).last_hidden_state[:, last])
    assert torch.equal(logits, expected)
    elsewhere = ids.clone()
    elsewhere[mask == 0] = (elsewhere[mask == 0] + 1) % 11
    assert torch.equal(model(elsewhere, attention_mask=mask).logits, logits)
    for column in (last, sides[0]):  # the last token, and the first, which the last one sees
        other = ids.clone()
        other[:, column] = (other[:, column] + 1) % 11
        assert (model(other, attention_mask=mask).logits - logits).abs().amin(1).min() > 1e-6


def test_rows_of_a_batch_end_where_each_ends():
    model = wrapped(ReformerTorchForSequenceClassification)
    ids, mask = some_tokens(3, 15), torch.ones(3, 15, dtype=torch.long)
    mask[1, 9:] = 0
    mask[2, :6] = 0
    logits = model(ids, attention_mask=mask).logits
    for row, part in enumerate((slice(0, 15), slice(0, 9), slice(6, 15))):
        torch.testing.assert_close(logits[row], model(ids[row : row + 1, part]).logits[0])


def test_a_bidirectional_classifier_reads_the_mean_over_real_tokens():
    model = wrapped(ReformerTorchForSequenceClassification, causal=False)
    ids, mask = padded(some_tokens(2, 10), 3, 4)
    hidden = model.reformer(ids, attention_mask=mask).last_hidden_state
    expected = model.classifier(hidden[:, 3:13].mean(1))
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, expected)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_causal_loss_is_of_the_next_real_token(mode, tied):
    model = wrapped(ReformerTorchForCausalLM, tie_embeddings=tied)
    ids, mask = padded(some_tokens(2, 20), 4, 3)
    labels = ids.clone()
    labels[0, 9] = -100
    logits = model(ids, attention_mask=mask).logits
    # Columns 4 to 23 are real: 19 pairs a row, of which one has no label.
    expected = F.cross_entropy(logits[:, 4:23].flatten(0, 1), labels[:, 5:24].flatten())
    getattr(model, mode)()
    found = model(ids, attention_mask=mask, labels=labels, seed=0)
    torch.testing.assert_close(found.loss, expected)
    # Accumulated gradients: the sum over as many as the Trainer counted.
    parts = [model(ids, attention_mask=mask, labels=labels, seed=0, num_items_in_batch=n).loss for n in (1, 37)]
    torch.testing.assert_close(parts[0] / 37, parts[1])
    torch.testing.assert_close(parts[1], expected)
    if mode == "train":
        assert found.logits is None
    else:
        assert torch.equal(found.logits, logits)


def test_padding_changes_no_loss():
    model = wrapped(ReformerTorchForCausalLM)
    tokens = some_tokens(2, 20)
    alone = model(tokens, labels=tokens).loss
    for sides in ((5, 0), (0, 5), (2, 2)):
        ids, mask = padded(tokens, *sides)
        torch.testing.assert_close(model(ids, attention_mask=mask, labels=ids).loss, alone)


def test_the_masked_loss_is_of_the_labels_where_they_are():
    model = wrapped(ReformerTorchForMaskedLM, causal=False)
    ids = some_tokens(2, 20)
    labels = torch.full_like(ids, -100)
    labels[:, ::3] = ids[:, ::3]
    found = model(ids, labels=labels)
    torch.testing.assert_close(found.loss, F.cross_entropy(found.logits.flatten(0, 1), labels.flatten()))
    assert model.train()(ids, labels=labels).logits is None


def test_logits_to_keep():
    model = wrapped(ReformerTorchForCausalLM)
    ids = some_tokens(2, 20)
    logits = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=3).logits, logits[:, -3:])
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([4, 9])).logits, logits[:, [4, 9]])


def test_losses_of_the_classifiers():
    ids = some_tokens(2, 20)
    model = wrapped(ReformerTorchForSequenceClassification)
    found = model(ids, labels=torch.tensor([2, 0]))
    torch.testing.assert_close(found.loss, F.cross_entropy(found.logits, torch.tensor([2, 0])))
    model.config.problem_type = "multi_label_classification"
    wanted = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(model(ids, labels=wanted).loss, F.binary_cross_entropy_with_logits(found.logits, wanted))
    model = wrapped(ReformerTorchForTokenClassification)
    labels = torch.where(ids % 4 == 0, -100, ids % 3)
    found = model(ids, labels=labels)
    expected = F.cross_entropy(found.logits.float().flatten(0, 1), labels.flatten())
    torch.testing.assert_close(found.loss, expected)
    model = wrapped(ReformerTorchForQuestionAnswering)
    # The second answer starts beyond the text: only its end counts.
    found = model(ids, start_positions=torch.tensor([3, 99]), end_positions=torch.tensor([8, 4]))
    starts = F.cross_entropy(found.start_logits[:1], torch.tensor([3]))
    ends = F.cross_entropy(found.end_logits, torch.tensor([8, 4]))
    torch.testing.assert_close(found.loss, (starts + ends) / 2)
