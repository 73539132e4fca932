"""The encoder-decoder: reversible gradients on both sides, inert padding, shared and tied embeddings."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.models import EncoderDecoderConfig, ReformerEncoderDecoder
from reformer.testing import exact_normal, saved_tensors

from .factory import assert_same, loss_and_gradients
from .helpers import refuses

V, SOURCE_V = 7, 9
NOISY = {"dropout": 0.2, "attention_dropout": 0.3}
KINDS = [
    {},
    {"shared_qk": False},
    {"encoder_attention": ("local", "lsh"), "attention": ("lsh", "local", "full"), "pattern": "bucket"},
    {"positions": "rotary", "shared_qk": False},
    {"positions": "learned", "source_vocab_size": None, "tie_embeddings": True},
    {"attention": ("full",)},
]


def tiny(**changes) -> ReformerEncoderDecoder:
    """Two layers on each side, float64."""
    options = {
        "vocab_size": V,
        "source_vocab_size": SOURCE_V,
        "d_model": 8,
        "d_ff": 12,
        "n_heads": 2,
        "n_buckets": 4,
        "lsh_chunk_len": 8,
        "local_chunk_len": 8,
        "positions": "sinusoidal",
        "max_len": 40,
        "ff_chunk_len": 7,
        "loss_chunk_len": 5,
    }
    torch.manual_seed(0)
    model = ReformerEncoderDecoder(EncoderDecoderConfig(**{**options, **changes})).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, dtype=torch.float64) * 0.3)
    return model


def some(vocab: int, batch: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded(lengths: list[int], width: int) -> Tensor:
    """Segment ids of rows of these lengths, padded on the right."""
    return torch.where(torch.arange(width) < torch.tensor(lengths)[:, None], 0, -1)


SOURCE, TARGET = some(V, 3, 11), some(V, 3, 13, seed=1)
SOURCE_IDS, TARGET_IDS = padded([11, 4, 7], 11), padded([6, 13, 1], 13)


def loss_of(model: ReformerEncoderDecoder, seed: int | None = 5, **options) -> Tensor:
    return model(
        SOURCE,
        model.shift_right(TARGET),
        targets=TARGET.masked_fill(TARGET_IDS < 0, -100),
        source_segment_ids=SOURCE_IDS,
        segment_ids=TARGET_IDS,
        seed=seed,
        **options,
    )


@pytest.mark.parametrize("changes", KINDS, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_equal_plain_autograd(training: bool, changes: dict):
    model, plain = (tiny(**changes, **NOISY, reversible=r).train(training) for r in (True, False))
    results = loss_and_gradients(model, lambda m: loss_of(m, label_smoothing=0.1))
    assert_same(results, loss_and_gradients(plain, lambda m: loss_of(m, label_smoothing=0.1)))
    assert all(value is not None and value.abs().sum() > 0 for value in results.values())


def test_gradients_of_source_embeddings_reach_through_both_sides():
    results = []
    for reversible in (True, False):
        model = tiny(reversible=reversible, **NOISY)
        features = exact_normal(3, 11, 8).requires_grad_()
        arguments = {"source_segment_ids": SOURCE_IDS, "segment_ids": TARGET_IDS, "seed": 3}
        model(None, TARGET, source_embeds=features, **arguments).square().sum().backward()
        results.append(features.grad)
    torch.testing.assert_close(*results)
    assert results[0][SOURCE_IDS < 0].eq(0).all()
    assert results[0][SOURCE_IDS >= 0].ne(0).any(-1).all()  # single features may be dropped


@pytest.mark.parametrize("changes", [*KINDS[:2], {"streams": 1, "reversible": False}], ids=str)
def test_packed_pairs_are_as_alone(changes: dict):
    """Two pairs and padding in one row; logits and gradients are those of a batch of the two, padded differently."""
    changes = {"attention": ("full", "local"), "encoder_attention": ("full", "local"), **changes}
    source_lengths, target_lengths = [4, 5], [7, 3]
    packed, batch = tiny(**changes), tiny(**changes)

    def ids(lengths: list[int], width: int) -> Tensor:
        each = torch.repeat_interleave(torch.tensor([3, 8]), torch.tensor(lengths))
        return torch.cat([each, torch.full((width - sum(lengths),), -1)])[None]

    source, target = some(V, 1, 11, seed=3), some(V, 1, 13, seed=4)
    logits = packed(
        source, target, source_segment_ids=ids(source_lengths, 11), segment_ids=ids(target_lengths, 13), seed=5
    )
    in_rows = []
    for tokens, lengths, width in ((source, source_lengths, 6), (target, target_lengths, 9)):
        rows = [F.pad(row, (0, width - len(row))) for row in tokens[0, : sum(lengths)].split(lengths)]
        in_rows.append((torch.stack(rows), padded(lengths, width)))
    (sources, source_ids), (targets, target_ids) = in_rows
    expected = batch(sources, targets, source_segment_ids=source_ids, segment_ids=target_ids, seed=5)[target_ids >= 0]
    assert_same({"logits": logits[0, : sum(target_lengths)]}, {"logits": expected})
    (logits[0, : sum(target_lengths)] ** 2).sum().backward()
    (expected**2).sum().backward()
    assert_same(*({name: p.grad for name, p in model.named_parameters()} for model in (packed, batch)))


@pytest.mark.parametrize(
    "frozen", ["encoder", "stack", "source_embedding", "cross_attention", "stack.layers.0", "norm"]
)
def test_with_frozen_parts(frozen: str):
    results = []
    for reversible in (True, False):
        model = tiny(reversible=reversible, **NOISY)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(frozen not in name)
        results.append(loss_and_gradients(model, loss_of))
    assert_same(*results)
    assert all((results[0][name] is None) == (frozen in name) for name, _ in model.named_parameters())


def test_autograd_grad_and_a_memory_that_needs_no_gradient():
    results = []
    for reversible in (True, False):
        model = tiny(reversible=reversible, **NOISY)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("stack" in name)
        names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad))
        results.append(dict(zip(names, torch.autograd.grad(loss_of(model), parameters))))
    assert_same(*results)


def test_hooks_see_the_memory_gradient_once_and_whole():
    model = tiny(attention=("full",) * 5)
    memory, seen = exact_normal(3, 11, 8).requires_grad_(), []
    memory.register_hook(lambda g: seen.append(g.clone()))
    x = exact_normal(3, 13, 8, seed=4)
    y1, y2 = model.stack(x, x, seed=2, memory=memory)
    (y1 * y2).sum().backward()
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], memory.grad)


def test_activation_memory_does_not_grow_with_depth():
    def kept(depth: int, reversible: bool) -> int:
        kinds = {"attention": ("full", "lsh") * (depth // 2), "encoder_attention": ("full", "lsh") * (depth // 2)}
        model = tiny(**kinds, reversible=reversible, **NOISY)
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        with saved_tensors() as tensors:
            loss_of(model)
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.is_floating_point()
        }
        return sum(size for pointer, size in storages.items() if pointer not in own)

    assert kept(2, True) == kept(8, True) > 0
    assert kept(8, False) > 2.5 * kept(2, False)


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_padding_is_inert(changes: dict):
    """What padding holds, and how much of it there is, changes no output and no gradient."""
    model = tiny(**changes)
    expected = loss_and_gradients(model, loss_of)
    with torch.no_grad():
        # Other ids where there is padding, and more of it.
        source = torch.cat([SOURCE.where(SOURCE_IDS >= 0, (SOURCE + 3) % V), some(V, 3, 5, seed=9)], dim=1)
        target = torch.cat([TARGET.where(TARGET_IDS >= 0, (TARGET + 2) % V), some(V, 3, 2, seed=8)], dim=1)
    source_ids, target_ids = padded([11, 4, 7], 16), padded([6, 13, 1], 15)
    targets = target.masked_fill(target_ids < 0, -100)

    def compute(m: ReformerEncoderDecoder) -> Tensor:
        options = {"source_segment_ids": source_ids, "segment_ids": target_ids, "targets": targets, "seed": 5}
        return m(source, m.shift_right(target), **options)

    assert_same(loss_and_gradients(model, compute), expected, rtol=1e-8, atol=1e-10)


def test_rows_of_a_batch_are_independent():
    model = tiny(shared_qk=False).eval()
    together = model(SOURCE, TARGET, source_segment_ids=SOURCE_IDS, segment_ids=TARGET_IDS)
    for row, (s, t) in enumerate(zip((11, 4, 7), (6, 13, 1))):
        alone = model(SOURCE[row : row + 1, :s], TARGET[row : row + 1, :t])
        torch.testing.assert_close(together[row, :t], alone[0], rtol=1e-10, atol=1e-12)


def test_the_decoder_is_causal_and_the_encoder_is_not():
    model = tiny().eval()
    before = model(SOURCE, TARGET)
    later = TARGET.clone()
    later[:, 8:] = (later[:, 8:] + 1) % V
    torch.testing.assert_close(model(SOURCE, later)[:, :8], before[:, :8], rtol=1e-12, atol=1e-12)
    source = SOURCE.clone()
    source[:, -1] = (source[:, -1] + 1) % V
    assert (model(source, TARGET)[:, 0] - before[:, 0]).abs().amax(-1).gt(1e-6).all()
    assert (model.encode(source) - model.encode(SOURCE))[:, 0].abs().amax(-1).gt(1e-6).all()


def test_the_decoder_layer_is_the_one_of_the_docstring():
    """Three residual functions by turns, the streams swapped after each layer; the mean and a norm at the end."""
    model = tiny(shared_qk=False).eval()
    memory = exact_normal(2, 5, 8, seed=2)
    x = exact_normal(2, 6, 8)
    x1 = x2 = x
    for layer in model.stack.layers:
        self_attention, cross, feed_forward = layer.attention, layer.cross_attention, layer.feed_forward
        z1 = x1 + self_attention.inner(self_attention.norm(x2))
        z2 = x2 + cross.inner(cross.norm(z1), memory)
        y1 = z1 + feed_forward.inner(feed_forward.norm(z2))
        x1, x2 = z2, y1
    found = model.stack(x, x, memory=memory)
    for a, b in zip(found, (x1, x2)):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_one_vocabulary_has_one_table_and_a_tied_head_reads_it():
    model = tiny(source_vocab_size=None, tie_embeddings=True).eval()
    tables = [n for n, p in model.named_parameters() if p.shape[0] in (V, V + 2) and p.dim() == 2]
    assert tables == ["embedding.weight"]
    before = model(SOURCE, TARGET)
    with torch.no_grad():
        model.embedding.weight[3] += 1.0
    after = model(SOURCE, TARGET)
    unused = ~((SOURCE == 3).any(1)[:, None] | (TARGET == 3).cummax(1).values.bool())
    assert (after[..., 3] - before[..., 3]).abs().gt(1e-6).all()
    # Where neither side holds the token, only its own logit moves.
    others = [v for v in range(V) if v != 3]
    torch.testing.assert_close(after[unused][:, others], before[unused][:, others])


def test_loss_is_that_of_the_logits():
    model = tiny().eval()
    logits = model(SOURCE, model.shift_right(TARGET))
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), TARGET.flatten(), label_smoothing=smoothing)
        found = model(SOURCE, model.shift_right(TARGET), targets=TARGET, label_smoothing=smoothing)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_same_weights_under_another_config():
    model = tiny()
    changed = model.with_changes(encoder_attention=("lsh", "lsh"), attention=("local", "lsh"))
    assert_same(dict(changed.named_parameters()), dict(model.named_parameters()), rtol=0, atol=0)
    with refuses(ValueError, "needs other parameters", "source_embedding.weight"):
        model.with_changes(source_vocab_size=None)


def test_inputs_that_do_not_fit_one_another_are_refused():
    model = tiny(positions="learned", max_len=12)
    with refuses(ValueError, "length 13 is beyond the 12 positions"):
        model(SOURCE, TARGET)
    with refuses(ValueError, "tokens must be [batch of the source, length]", "got [2, 4]"):
        model(SOURCE, TARGET[:2, :4])
    with refuses(ValueError, "exactly one of source and source_embeds"):
        model(None, TARGET)
    with refuses(ValueError, "exactly one of source and source_embeds"):
        model(SOURCE, TARGET, source_embeds=exact_normal(3, 11, 8))
    source, target, ids = SOURCE[:, :5], TARGET[:, :5], torch.zeros(SOURCE.shape[0], 6).long()
    with refuses(ValueError, "source_segment_ids must be [batch, length], as the source", ", 5]", ", 6]"):
        model(source, target, source_segment_ids=ids)
    with refuses(ValueError, "segment_ids must be [batch, length], as the target", ", 5]", ", 6]"):
        model(source, target, segment_ids=ids)
    config = model.config
    for changes, fact in [
        ({"causal": False}, "must be causal"),
        ({"encoder_attention": ()}, "at least one layer"),
        ({"encoder_attention": ("dense",)}, "encoder_attention must be one of"),
        ({"source_vocab_size": 0}, "source_vocab_size must be at least 1"),
    ]:
        with refuses(ValueError, fact):
            dataclasses.replace(config, **changes)
