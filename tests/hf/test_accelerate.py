"""transformers' Reformer with its attention replaced by ours, against itself and against plain autograd."""

import copy

import pytest
import torch
import transformers
from transformers.models.reformer import modeling_reformer as theirs

from reformer.hf import accelerate

LSH, LOCAL, MIXED = ["lsh"] * 2, ["local"] * 2, ["local", "lsh", "lsh", "local"]
NO_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "lsh_attention_probs_dropout_prob": 0.0,
    "local_attention_probs_dropout_prob": 0.0,
}


def config(attn_layers=LSH, **changes):
    given = {
        "attn_layers": attn_layers,
        "vocab_size": 40,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "attention_head_size": 6,
        "feed_forward_size": 24,
        "lsh_attn_chunk_length": 4,
        "local_attn_chunk_length": 6,
        "num_hashes": 2,
        "num_buckets": 6,
        "axial_pos_embds": False,
        "max_position_embeddings": 96,
        "is_decoder": True,
        "initializer_range": 0.3,
        **NO_DROPOUT,
    }
    return transformers.ReformerConfig(**{**given, **changes})


def pair(configuration, model_class=transformers.ReformerModelWithLMHead, dtype=torch.float64):
    """A model, and an accelerated copy of it.

    In float64: in float32 transformers loses log 2 beside the -1e5 of a token that sees only itself, twice over.
    """
    torch.manual_seed(0)
    model = model_class(configuration).to(dtype).eval()
    ours = copy.deepcopy(model)
    assert not accelerate(ours).left
    return model, ours


def tokens(batch=2, length=48):
    return torch.randint(0, 40, (batch, length), generator=torch.Generator().manual_seed(1))


def padding(side, batch=2, length=48):
    place = torch.arange(length)
    if side == "left":
        place = place.flip(0)
    return (place < torch.tensor([[length - 7], [length]])[:batch]).long()


def seeded(model, **inputs):
    torch.manual_seed(7)
    return model(**inputs)


DEFAULT = config().to_dict()
CASES = [
    config(),
    config(num_hashes=1),
    config(num_hashes=4, num_buckets=[4, 6]),
    config(num_buckets=None),
    config(hash_seed=3),
    config(lsh_num_chunks_before=2),
    config(lsh_num_chunks_before=0),
    config(LOCAL),
    config(MIXED),
    config(MIXED, local_num_chunks_before=0, num_hashes=3),
]


def named(configuration):
    names = ("num_hashes", "num_buckets", "hash_seed", "lsh_num_chunks_before", "local_num_chunks_before")
    changed = [
        f"{name}={getattr(configuration, name)}" for name in names if getattr(configuration, name) != DEFAULT[name]
    ]
    return " ".join(["+".join(configuration.attn_layers), *changed])


@pytest.mark.parametrize("configuration", CASES, ids=named)
@pytest.mark.parametrize("mask", [None, "left", "right"])
@pytest.mark.parametrize("length", [48, 37, 4])
def test_same_rotations_same_logits(configuration, mask, length):
    model, ours = pair(configuration)
    given = {"input_ids": tokens(length=length), "use_cache": True}
    real = torch.ones(2, length, dtype=torch.bool)
    if mask is not None:
        given["attention_mask"] = padding(mask, length=length)
        real = given["attention_mask"].bool()
    expected, got = seeded(model, **given), seeded(ours, **given)
    torch.testing.assert_close(got.logits[real], expected.logits[real], rtol=1e-4, atol=1e-4)
    for mine, other in zip(got.past_buckets_states.buckets_cache, expected.past_buckets_states.buckets_cache):
        assert torch.equal(mine, other)
    # The generator is left where theirs leaves it, so that the next call agrees too.
    if configuration.hash_seed is None:
        state = torch.get_rng_state()
        seeded(model, **given)
        assert torch.equal(state, torch.get_rng_state())


def test_it_is_nearer_to_float64_than_transformers_in_float32():
    """A causal token that sees only itself, twice, is what transformers loses precision on."""
    model, _ = pair(config(num_hashes=4))
    theirs_32, ours_32 = pair(config(num_hashes=4), dtype=torch.float32)
    ids = tokens()
    # The same rotations in both dtypes.
    with torch.no_grad():
        rotations = [torch.randn(2, 6, 4, 3) for _ in LSH]
        outputs = []
        for m in (model, theirs_32, ours_32):
            draws = iter(rotations)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch, "randn", lambda *_, dtype, d=draws, **__: next(d).to(dtype))
                outputs.append(m(ids).logits.double())
    exact, others, mine = outputs
    assert (mine - exact).abs().max() < 1e-4 < (others - exact).abs().max()


@pytest.mark.parametrize(
    "model_class",
    [
        transformers.ReformerModel,
        transformers.ReformerForMaskedLM,
        transformers.ReformerForSequenceClassification,
        transformers.ReformerForQuestionAnswering,
    ],
)
def test_bidirectional_models_with_other_heads(model_class):
    model, ours = pair(config(is_decoder=False, lsh_num_chunks_after=1), model_class)
    for mask in (None, padding("right")):
        expected = seeded(model, input_ids=tokens(), attention_mask=mask)[0]
        got = seeded(ours, input_ids=tokens(), attention_mask=mask)[0]
        if mask is not None and expected.shape[:2] == mask.shape:
            expected, got = expected[mask.bool()], got[mask.bool()]
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def with_fixed_seeds(monkeypatch):
    """Instead of transformers' seeds from the operating system, which nobody can repeat: a layer's number."""

    def attention_seed(layer):
        layer.attention_seed = 100 + layer.attention.layer_id
        torch.manual_seed(layer.attention_seed)

    def feed_forward_seed(layer):
        layer.feed_forward_seed = 200 + layer.attention.layer_id
        torch.manual_seed(layer.feed_forward_seed)

    monkeypatch.setattr(theirs.ReformerLayer, "_init_attention_seed", attention_seed)
    monkeypatch.setattr(theirs.ReformerLayer, "_init_feed_forward_seed", feed_forward_seed)


def gradients(model, mask=None):
    """Of a loss over real tokens: [embeddings, parameters..] in training mode."""
    embeddings = model.get_input_embeddings()(tokens()).detach().requires_grad_()
    model.zero_grad()
    torch.manual_seed(0)
    logits = model(inputs_embeds=embeddings, attention_mask=mask).logits
    real = torch.ones(2, 48, dtype=torch.bool) if mask is None else mask.bool()
    logits[real].log_softmax(-1)[:, 0].sum().backward()
    # lm_head.bias has no part in transformers' logits.
    return [embeddings.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


def worst(got, expected):
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(got, expected))


@pytest.mark.parametrize("configuration", [c for c in CASES if c.hash_seed is None], ids=named)
@pytest.mark.parametrize("mask", [None, "left", "right"])
def test_gradients_equal_theirs_without_dropout(configuration, mask, monkeypatch):
    with_fixed_seeds(monkeypatch)
    model, ours = pair(configuration)
    mask = None if mask is None else padding(mask)
    expected, got = gradients(model.train(), mask), gradients(ours.train(), mask)
    assert len(expected) == len(got) > 10
    assert worst(got, expected) < 1e-3
    # What remains is the 1e-6 that they add to a key's mean square.
    real = theirs.LSHSelfAttention._len_norm
    monkeypatch.setattr(theirs.LSHSelfAttention, "_len_norm", lambda self, x: real(self, x, epsilon=0.0))
    assert worst(got, gradients(model, mask)) < 1e-9


def plain_gradients(model):
    """The same gradients by plain autograd: the layers in order, nothing recomputed, the same draws."""

    def forward(hidden, layers, *_):
        x2, x1 = hidden.chunk(2, dim=-1)
        for layer in layers:
            layer._init_attention_seed()
            x1 = x1 + layer.attention(hidden_states=x2).hidden_states
            layer._init_feed_forward_seed()
            x2 = x2 + layer.feed_forward(x1)
        return torch.cat([x1, x2], dim=-1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs._ReversibleFunction, "apply", forward)
        return gradients(model)


@pytest.mark.parametrize("layers", [LSH, LOCAL, MIXED], ids=str)
@pytest.mark.parametrize("hash_seed", [None, 3])
def test_gradients_under_dropout_are_right_which_theirs_are_not(layers, hash_seed, monkeypatch):
    with_fixed_seeds(monkeypatch)
    names = ("hidden_dropout_prob", "lsh_attention_probs_dropout_prob", "local_attention_probs_dropout_prob")
    model, ours = pair(config(layers, hash_seed=hash_seed, **dict.fromkeys(names, 0.1)))
    assert worst(gradients(ours.train()), plain_gradients(ours)) < 1e-5
    if "lsh" in layers:
        assert worst(gradients(model.train()), plain_gradients(model)) > 1e-2


def test_number_of_hashes_of_a_call_also_in_training(monkeypatch):
    with_fixed_seeds(monkeypatch)
    _, ours = pair(config())
    out = ours.train()(tokens(), num_hashes=4, labels=tokens())
    out.loss.backward()
    assert ours.get_input_embeddings().weight.grad.abs().sum() > 0


def test_hash_seed_leaves_the_global_generator_alone():
    _, ours = pair(config(hash_seed=3))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ours(tokens())
    assert torch.equal(torch.get_rng_state(), before)


def test_cached_decoding_is_theirs():
    model, ours = pair(config(MIXED, hash_seed=3, pad_token_id=0, eos_token_id=39))
    prompt = tokens(batch=1, length=13)
    expected, got = (m.generate(prompt, max_new_tokens=8, do_sample=False) for m in (model, ours))
    assert torch.equal(got, expected)


def test_attentions_asked_for_are_theirs():
    model, ours = pair(config(MIXED))
    expected, got = (seeded(m, input_ids=tokens(), output_attentions=True).attentions for m in (model, ours))
    assert len(expected) == len(got) == 4
    for mine, other in zip(got, expected):
        torch.testing.assert_close(mine, other)


def test_layers_that_differ_are_left_alone_and_named():
    model = transformers.ReformerModel(config(MIXED, is_decoder=False, local_num_chunks_after=1)).eval()
    report = accelerate(model)
    assert report.replaced == [f"encoder.layers.{i}.attention.self_attention" for i in (1, 2)]
    assert list(report.left) == [f"encoder.layers.{i}.attention.self_attention" for i in (0, 3)]
    assert all("wraps around" in reason for reason in report.left.values())
    assert str(report).startswith("2 of 4 attention layers accelerated\nleft alone: encoder.layers.0")
    assert accelerate(model) == report


def test_weights_are_shared_saved_and_loaded_as_before(tmp_path):
    model, ours = pair(config(MIXED), dtype=torch.float32)
    assert list(ours.state_dict()) == list(model.state_dict())
    ours.save_pretrained(tmp_path)
    again = transformers.ReformerModelWithLMHead.from_pretrained(tmp_path).eval()
    assert type(again.reformer.encoder.layers[1].attention.self_attention) is theirs.LSHSelfAttention
    torch.testing.assert_close(
        seeded(again, input_ids=tokens()).logits, seeded(model, input_ids=tokens()).logits, rtol=0, atol=0
    )


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(
        ValueError, match=r"^Linear has no LSHSelfAttention .*; give a model loaded by transformers\.ReformerModel"
    ):
        accelerate(torch.nn.Linear(2, 2))
