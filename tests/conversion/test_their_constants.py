"""transformers' own numbers for Reformer, of its ReformerIntegrationTests: reproduced by it here, and by ours.

Weights are drawn after ``torch.manual_seed(0)`` as there; the numbers were taken from the authors' trax models in 2020.
Three of them are outputs at *padding*, which in ours is 0 by definition: see the last two tests.
"""

import pytest
import torch
from torch import Tensor
from transformers import ReformerConfig, ReformerForMaskedLM, ReformerModel, ReformerModelWithLMHead
from transformers.models.reformer.modeling_reformer import ReformerLayer

from reformer.conversion import Converted, TextFormat, convert_config, convert_weights
from reformer.models import ReformerLM

from .helpers import same_rotations

CONFIG = {
    "vocab_size": 320,
    "attention_head_size": 8,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_buckets": 2,
    "num_hashes": 4,
    "lsh_attn_chunk_length": 4,
    "local_attn_chunk_length": 4,
    "feed_forward_size": 32,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "lsh_attention_probs_dropout_prob": 0.0,
    "local_attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 32,
    "axial_pos_shape": [4, 8],
    "axial_pos_embds_dim": [8, 8],
    "hash_seed": 0,
    "is_decoder": True,
}
IDS = torch.tensor(
    [
        [int(word) for word in row.split()]
        for row in (
            """
    89 279 286 84 194 316 182 28 283 37 169 7 253 267 107 250 44 7 102 62 3 243 171 265 302 48 164 264
    148 229 280 150
    """,
            """
    9 192 66 112 163 83 135 70 224 96 31 80 196 80 63 22 85 100 47 283 0 163 126 143 195 82 53 82 18 27
    182 52
    """,
        )
    ]
)
MASK = torch.tensor(
    [
        [1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0],
    ]
)
POSITIONS = torch.arange(32).expand(2, 32)
STATES = torch.tensor(
    [
        [float(word) for word in row.split()]
        for row in (
            """
    1.90826353 -1.4599973 -0.620405462 1.52503433 -0.364464232 -0.827359235 0.839670803 0.244492178
    0.498332758 2.69175139 -0.00708081422 1.04915401 -1.83476661 0.767220476 0.298580543 0.0284803992
    """,
            """
    -0.0266374286 0.433497576 0.310386309 0.546039944 -0.000247292666 -0.752305019 0.239162103
    0.725216186 -0.758357372 0.420635998 -0.0404739919 0.159924145 2.05135748 -1.15997978 0.537166397
    0.262873606
    """,
            """
    0.185247482 0.707046037 -0.677089715 -2.24209655 -0.037530798 -0.859380874 -2.81027884 1.01276376
    -1.69438001 0.41757466 -1.49196962 -1.76483717 -0.194566312 -1.71183858 0.772903565 -1.11557056
    """,
            """
    0.946069193 0.153417623 -0.958686996 0.118126669 1.75967724 1.6219459 -0.574108159 0.679920443
    0.544028163 0.205466114 -0.363045868 0.241865062 0.320348382 -0.905611176 -0.192690727 -1.19917547
    """,
        )
    ]
)[None]
LAYER_MASK = torch.tensor([[0, 1, 0, 0]])
# Their tests' own tolerance.
CLOSE = {"rtol": 1e-3, "atol": 1e-3}


def build(kind, **changes):
    torch.manual_seed(0)
    return kind(ReformerConfig(**{**CONFIG, **changes}))


def ours(config: ReformerConfig, weights: dict[str, Tensor]) -> ReformerLM:
    """The converted model of a state_dict whose head, if it has none, is zero."""
    weights = {name if name.startswith("lm_head") else f"reformer.{name}": w for name, w in weights.items()}
    weights.setdefault("lm_head.decoder.weight", torch.zeros(320, 32))
    weights.setdefault("lm_head.bias", torch.zeros(320))
    found = convert_config(config.to_dict())
    return Converted(config=found, weights=convert_weights(found, weights), text=TextFormat(kind="ids")).model()


def ours_of(model) -> ReformerLM:
    weights = {name.removeprefix("reformer."): tensor for name, tensor in model.state_dict().items()}
    return ours(model.config, weights)


def ours_of_layer(layer: ReformerLayer, config: ReformerConfig) -> ReformerLM:
    """A model of one layer, whose other weights nobody looks at."""
    rest = {n: w for n, w in ReformerModel(config).state_dict().items() if not n.startswith("encoder.layers")}
    return ours(config, rest | {f"encoder.layers.0.{name}": w for name, w in layer.state_dict().items()})


def close(found: Tensor, constants: list[float]) -> None:
    torch.testing.assert_close(found.detach(), torch.tensor(constants), **CLOSE)


@pytest.mark.parametrize(
    ("kind", "changes", "constants"),
    [
        ("lsh", {"is_decoder": False}, [1.6879, -1.3083, -0.4708, 1.3555, -0.6292]),
        ("lsh", {"num_buckets": [2, 4]}, [1.6439, -1.2306, -0.5108, 1.3006, -0.6537]),
        ("local", {"is_decoder": False}, [1.4212, -2.0576, -0.9688, 1.4599, -0.1344]),
    ],
)
def test_layers(kind: str, changes: dict, constants: list[float]):
    changes = {"attn_layers": [kind], f"{kind}_num_chunks_before": 0, **changes}
    theirs = build(ReformerLayer, **changes).eval()
    mask = None if "is_decoder" in changes else LAYER_MASK
    with torch.no_grad(), same_rotations(0):
        close(theirs(STATES.clone(), STATES, attention_mask=mask).hidden_states[0, 0, :5], constants)
        # The masked first token of the second case sees itself alone, because it is the first: a segment of its own.
        segments = None if mask is None else torch.tensor([[0, 1, -1, -1]])
        model = ours_of_layer(theirs, ReformerConfig(**{**CONFIG, **changes}))
        _, found = model.stack(STATES, STATES, seed=0, segment_ids=segments)
    close(found[0, 0, :5], constants)


@pytest.mark.parametrize(
    ("changes", "constants"),
    [
        ({"attn_layers": ["lsh"] * 4, "num_buckets": [2, 4]}, [-0.9896, -0.9396, -1.0831, -0.0597, 0.2456]),
        ({"attn_layers": ["local"] * 4}, [-1.6791, 0.7171, 0.1594, 0.4063, 1.2584]),
    ],
)
def test_models(changes: dict, constants: list[float]):
    theirs = build(ReformerModel, **changes).eval()
    with torch.no_grad(), same_rotations(0):
        close(theirs(IDS, attention_mask=MASK, use_cache=False).last_hidden_state[0, 0, :5], constants)
        model = ours_of(theirs)
        close(model.hidden(IDS, segment_ids=MASK - 1, position_ids=POSITIONS)[0, 0, :5], constants)


@pytest.mark.parametrize(
    ("changes", "loss", "gradient", "axis_1", "axis_2"),
    [
        (
            {"attn_layers": ["local"] * 4},
            5.8019,
            [-0.0005, -0.0001, -0.0002, -0.0006, -0.0006],
            [-0.5235, 0.5704, 0.0922, -0.3140, 0.9928],
            [1.7960, 1.7668, 0.5593, 0.0907, 1.8342],
        ),
        (
            {"attn_layers": ["lsh"] * 4, "num_buckets": [2, 4], "num_hashes": 6},
            5.7854,
            [0.0004, 0.0003, 0.0006, -0.0004, 0.0002],
            [-0.3792, 0.5593, -1.6993, 0.2033, 0.4131],
            [-1.4212, -0.3201, -1.1944, 0.1258, 0.2856],
        ),
    ],
    ids=["local", "lsh"],
)
def test_losses_and_gradients(changes: dict, loss: float, gradient, axis_1, axis_2):
    theirs = build(ReformerModelWithLMHead, **changes).train()
    model = ours_of(theirs).train()
    with same_rotations(0):
        their_loss = theirs(IDS, labels=IDS).loss
        targets = torch.nn.functional.pad(IDS[:, 1:], (0, 1), value=-100)
        our_loss = model(IDS, targets=targets)
        their_loss.backward()
        our_loss.backward()
    for found in (their_loss, our_loss):
        torch.testing.assert_close(found.detach(), torch.tensor(loss), **CLOSE)
    theirs_grad = theirs.reformer.embeddings.word_embeddings.weight.grad
    close(theirs_grad[0, :5], gradient)
    close(model.embedding.weight.grad[0, :5], gradient)
    # Their tolerance of 1e-3 is more than these gradients; this one is not.
    torch.testing.assert_close(model.embedding.weight.grad[:320], theirs_grad, rtol=1e-3, atol=1e-5)
    close(model.positions.tables[0][1, -5:], axis_1)
    close(model.positions.tables[1][1, :5], axis_2)


def test_the_number_at_a_masked_token_of_a_mixed_model():
    # Theirs is the output at padding, row 1's last token; at the real tokens of LSH layers with this mask ours are theirs.
    theirs = build(
        ReformerForMaskedLM,
        attn_layers=["local", "lsh", "local", "lsh", "local", "lsh"],
        num_buckets=[2, 4],
        is_decoder=False,
    ).eval()
    model = ours_of(theirs)
    with torch.no_grad(), same_rotations(0):
        found = theirs(IDS, attention_mask=MASK).logits
        close(found[1, -1, :5], [0.1018, -0.2026, 0.2116, 0.0270, -0.1233])
        assert MASK[1, -1] == 0
        # Without a mask every token is real, and all the logits are the same.
        torch.testing.assert_close(model(IDS), theirs(IDS).logits, rtol=0.0, atol=1e-4)


def test_the_number_at_a_masked_token_of_a_local_layer():
    # With every key masked their weights are exp(-1e9 - logsumexp(-1e9, ..)) = 1 each in float32, and sum to 4.
    theirs = build(ReformerLayer, attn_layers=["local"], local_num_chunks_before=0).eval()
    with torch.no_grad():
        found = theirs(STATES, STATES, attention_mask=LAYER_MASK)
        close(found.hidden_states[0, 0, :5], [1.4750, -2.0235, -0.9743, 1.4463, -0.1269])
        attention = theirs.attention
        normed = attention.layer_norm(STATES)
        values = attention.self_attention.value(normed)
        summed = STATES + attention.output.dense(values.sum(1, keepdim=True))
    torch.testing.assert_close(found.attn_output[0, 0], summed[0, 0], rtol=1e-5, atol=1e-5)
