"""Breaks the code on purpose, one line at a time, and asks whether the tests notice.

    python tests/mutations.py            all of them (about fifteen minutes)
    python tests/mutations.py gradient   those whose name holds the word

Each mutation is made in a copy of src/reformer, or of csrc, from which that copy's library is then built; the working tree
is never touched. Exit status 1 if one is not caught, or if its old text no longer occurs exactly once.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from native_build import build

ROOT = Path(__file__).resolve().parent.parent


class Mutation(NamedTuple):
    """``old`` occurs once in ``file``; with ``new`` in its place the selected tests must fail.

    ``file`` is below src/reformer, or "csrc/..".
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


LSH = "tests/ops/test_lsh_attention.py"
PROPERTIES = "tests/ops/test_lsh_properties.py"
LOCAL = "tests/ops/test_local_attention.py"
FULL = "tests/ops/test_full_attention.py"
HASHING = "tests/ops/test_hashing.py"
CONVERSION = "tests/conversion"
NATIVE = "tests/ops/test_native.py"
ENGINE = "tests/ops/test_native_engine.py"
TRITON = "tests/ops/test_triton.py"
TRITON_HASHING = "tests/ops/test_triton_hashing.py"
MODEL = "tests/models/test_language_model.py"
REVERSIBLE = "tests/models/test_reversible.py"
INSPECT_SETS = "tests/inspection/test_visibility.py"
INSPECT_SUMS = "tests/inspection/test_statistics.py"
INSPECT_ROWS = "tests/inspection/test_summary.py"
DECODING = "tests/ops/test_decoding.py"
DECODED_MODEL = "tests/models/test_decoding.py"
IMAGES = "tests/data/images/"
IMAGE_TASK = "tests/training/test_image_task.py"
DECODING_STATE = "tests/models/test_decoding_state.py"
ENCODER_DECODER = "tests/models/test_encoder_decoder.py"
TRANSLATION = "tests/training/test_translation.py"

COMPAT = "tests/compat/test_lsh_self_attention.py"
ACCELERATE = "tests/hf/test_accelerate.py"

MUTATIONS = (
    # Experiments
    Mutation(
        "one stream: decoding adds to the other",
        "layers/reversible.py",
        "return (y := x2 + update), y",
        "return x2, x1 + update",
        "tests/models/test_encoder_decoder_decoding.py",
    ),
    Mutation(
        "one stream: functions all read the input",
        "ops/reversible.py",
        "    for layer in layers:\n        for branch in layer:\n            x = x + _update(branch, x, shared)\n    return x",
        "    return x + sum(_update(branch, x, shared) for layer in layers for branch in layer)",
        "tests/layers/test_reversible.py::test_one_stream_is_an_ordinary_transformer",
    ),
    Mutation(
        "muon: step of the shorter side",
        "training/muon.py",
        "math.sqrt(max(updates.shape[1:]))",
        "math.sqrt(min(updates.shape[1:]))",
        "tests/training/test_muon.py",
    ),
    Mutation(
        "muon: no Nesterov momentum",
        "training/muon.py",
        'torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"]))',
        "torch.stack(buffers)",
        "tests/training/test_muon.py",
    ),
    Mutation(
        "recall: the key is asked for",
        "data/recall.py",
        "distance[row, asked + 2] =",
        "distance[row, asked + 1] =",
        "tests/data/test_recall.py",
    ),
    Mutation(
        "recall: the filler is scored",
        "training/recall_task.py",
        "np.where(distance > 0, sequence, -100)",
        "np.where(distance >= 0, sequence, -100)",
        "tests/training/test_recall_task.py",
    ),
    Mutation(
        "recall: needles of the test split in text of the training split",
        "training/recall_task.py",
        "self.corpus.split(split), length",
        'self.corpus.split("test"), length',
        "tests/training/test_recall_task.py",
    ),
    # Drop-ins
    Mutation(
        "drop-in: padding takes places",
        "compat/lsh_self_attention.py",
        "    if mask is None:\n        return attend(*tensors)",
        "    return attend(*tensors)",
        f"{COMPAT}::test_padding_is_inert",
    ),
    Mutation(
        "drop-in: rotations shared the wrong way round",
        "compat/lsh_self_attention.py",
        "rows = qk if self.random_rotations_per_head else",
        "rows = qk if not self.random_rotations_per_head else",
        f"{COMPAT}::test_all_heads_share_their_rotations_unless_each_has_its_own",
    ),
    Mutation(
        "drop-in: positions hashed",
        "compat/lsh_self_attention.py",
        "(qk, rotated, v), mask)",
        "(rotated, qk, v), mask)",
        f"{COMPAT}::test_rotary_positions_are_applied_after_hashing",
    ),
    Mutation(
        "drop-in: memory behind the sequence",
        "compat/lsh_self_attention.py",
        "everything = torch.cat([before, x], dim=1)",
        "everything = torch.cat([x, before], dim=1)",
        f"{COMPAT}::test_memory_and_context_are_seen_by_every_token",
    ),
    Mutation(
        "accelerate: rotations not drawn again",
        "hf/accelerate.py",
        "            self._rotations(qk, buckets.shape[2])\n",
        "",
        f"{ACCELERATE}::test_gradients_under_dropout_are_right_which_theirs_are_not",
    ),
    Mutation(
        "accelerate: no bucket for padding",
        "hf/accelerate.py",
        "            n_buckets += 1\n",
        "",
        f"{ACCELERATE}::test_same_rotations_same_logits",
    ),
    Mutation(
        "accelerate: left padding moves local chunks",
        "hf/accelerate.py",
        " or not self._same(attention_mask)",
        "",
        f"{ACCELERATE}::test_same_rotations_same_logits",
    ),
    # Masks
    Mutation(
        "mask: causal sees itself",
        "ops/tiled_attention/plan.py",
        "place if exclude_self else place + 1",
        "place + 1",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "mask: chunk edge one place late",
        "ops/tiled_attention/plan.py",
        "base + (chunk - n_chunks_before) * chunk_len",
        "base + (chunk - n_chunks_before) * chunk_len + 1",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "mask: window one place wider",
        "ops/tiled_attention/plan.py",
        "torch.maximum(low, place - window)",
        "torch.maximum(low, place - window - 1)",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "mask: buckets do not separate",
        "ops/tiled_attention/plan.py",
        "keys = [bucket_NRL] if bucket_NRL is not None else []",
        "keys: list[Tensor] = []",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "mask: bidirectional sees itself",
        "ops/tiled_attention/tile.py",
        "visible &= key[:, None, :] != query[:, :, None]",
        "pass",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "mask: trax goes across segments",
        "ops/tiled_attention/tile.py",
        "visible = query_segment[:, :, None] == key_segment[:, None, :]",
        "visible = (query_segment[:, :, None] >= 0) & (key_segment >= 0)[:, None, :]",
        f"{PROPERTIES}::test_a_segment_does_not_see_another",
    ),
    Mutation(
        "mask: trax does not wrap",
        "ops/tiled_attention/tile.py",
        "inside = key_tile % G if plan.wrap is not None else key_tile.clamp(0, G - 1)",
        "inside = key_tile.clamp(0, G - 1)",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "reference: chunks look after, not before",
        "ops/lsh_attention/reference.py",
        "near = (ahead >= -n_chunks_before) & (ahead <= n_chunks_after)",
        "near = (-ahead >= -n_chunks_before) & (-ahead <= n_chunks_after)",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "mask: wrapping hides a token's own separate key",
        "ops/tiled_attention/tile.py",
        "    if plan.exclude_self:\n        visible &= key != query",
        "    visible &= key != query",
        f"{LOCAL}::test_wrapping_around_the_ends",
    ),
    Mutation(
        "local reference: a chunk met twice counts once",
        "ops/local_attention/reference.py",
        "logits + times.clamp_min(1)",
        "logits + times.clamp(1, 1)",
        f"{LOCAL}::test_wrapping_around_the_ends",
    ),
    # Conversion
    Mutation(
        "conversion: the start row is zero",
        "conversion/weights.py",
        "torch.cat([first, first[:1], torch.zeros_like(first[:1])])",
        "torch.cat([first, torch.zeros_like(first[:2])])",
        f"{CONVERSION}/test_folder.py",
    ),
    Mutation(
        "conversion: bidirectional local layers do not wrap",
        "conversion/transformers_config.py",
        'options["local_wrap"] = not theirs["is_decoder"]',
        'options["local_wrap"] = False',
        f"{CONVERSION}/test_parity.py",
    ),
    Mutation(
        "conversion: LayerNorm's epsilon is ours",
        "conversion/transformers_config.py",
        '"layer_norm_eps": theirs["layer_norm_eps"]',
        '"layer_norm_eps": 1e-5',
        f"{CONVERSION}/test_parity.py",
    ),
    Mutation(
        "conversion: any pickle opcode runs",
        "conversion/restricted_pickle.py",
        "if opcode.name not in _OPCODES:",
        "if False:",
        f"{CONVERSION}/test_restricted_pickle.py",
    ),
    Mutation(
        "conversion: surplus weights are left aside",
        "conversion/weights.py",
        "sorted(set(given) - set(names))",
        "[]",
        f"{CONVERSION}/test_folder.py",
    ),
    # Merging and counting once
    Mutation(
        "count once: a pair counts in every round",
        "ops/tiled_attention/tile.py",
        "torch.gt(visible, seen, out=visible)",
        "visible | seen",
        f"{LSH}::test_a_pair_counts_once_in_however_many_rounds",
    ),
    Mutation(
        "count once: only the first round is remembered",
        "ops/tiled_attention/tile.py",
        "for earlier in range(index):",
        "for earlier in range(min(index, 1)):",
        f"{LSH}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "merge: lse of the later part forgotten",
        "ops/tiled_attention/forward.py",
        "return out.div_(total.masked_fill(total == 0.0, 1.0)[..., None]), shift + total.log()",
        "return out.div_(total.masked_fill(total == 0.0, 1.0)[..., None]), lse_a",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "strips: the last one is left out",
        "ops/tiled_attention/plan.py",
        "for low in range(int(first.min()), int(last.max()) + 1, _STRIP):",
        "for low in range(int(first.min()), int(last.max()), _STRIP):",
        f"{LSH}::test_a_bucket_longer_than_many_tiles",
    ),
    # The rule about oneself
    Mutation(
        "self: nobody is ever alone",
        "ops/tiled_attention/forward.py",
        "    alone = lse == _NEG_INF\n",
        "    alone = torch.zeros_like(lse, dtype=torch.bool)\n",
        f"{LSH}::test_one_token_attends_to_itself",
    ),
    Mutation(
        "self: trax counts itself once",
        "ops/tiled_attention/forward.py",
        "self_lse = self_lse + _times_seen(plan).to(lse.dtype).log()",
        "pass",
        f"{LSH}::test_one_token_attends_to_itself",
    ),
    Mutation(
        # Its twin for dk has no effect on shared QK: that term lies along q and is projected off.
        "self: gradient of lse does not reach a lone token's query",
        "ops/tiled_attention/backward.py",
        "dq += torch.where(is_alone, ds * k.to(dq.dtype), 0.0)",
        "pass",
        f"{LSH}::test_gradients_are_those_of_finite_differences",
    ),
    # Gradients, term by term
    Mutation(
        "gradient: delta without the gradient of lse",
        "ops/tiled_attention/backward.py",
        "delta = (do * out_NLE.to(dtype)).sum(-1) - dlse",
        "delta = (do * out_NLE.to(dtype)).sum(-1)",
        f"{LSH}::test_either_output_alone_can_be_differentiated",
    ),
    Mutation(
        "gradient: no delta",
        "ops/tiled_attention/backward.py",
        "ds = dp.sub_(delta).mul_(p).mul_(scale)",
        "ds = dp.mul_(p).mul_(scale)",
        f"{LSH}::test_gradients_are_those_of_finite_differences",
    ),
    Mutation(
        "gradient: scale once too few",
        "ops/tiled_attention/backward.py",
        "ds = dp.sub_(delta).mul_(p).mul_(scale)",
        "ds = dp.sub_(delta).mul_(p)",
        f"{LSH}::test_gradients_are_those_of_finite_differences",
    ),
    Mutation(
        "gradient: values by undropped weights",
        "ops/tiled_attention/backward.py",
        "dropped_p = p * mask",
        "dropped_p = p",
        f"{LSH}::test_equals_the_definition_with_segments_and_dropout",
    ),
    Mutation(
        "gradient: weights by undropped values",
        "ops/tiled_attention/backward.py",
        "        dp.mul_(mask)\n",
        "",
        f"{LSH}::test_equals_the_definition_with_segments_and_dropout",
    ),
    Mutation(
        "gradient: keys not projected off their own direction",
        "ops/keys.py",
        "return (grad_k - keys * (keys * grad_k).sum(-1, keepdim=True)) * inverse",
        "return grad_k * inverse",
        f"{LSH}::test_gradients_are_those_of_finite_differences",
    ),
    Mutation(
        "gradient: key tiles of one offset only",
        "ops/tiled_attention/backward.py",
        "for offset in range(slab.key_tiles_Tw.shape[1]):",
        "for offset in range(1):",
        f"{LSH}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "gradient: zero vectors divide by zero",
        "ops/keys.py",
        "return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).rsqrt())",
        "return squared.rsqrt()",
        f"{LSH}::test_zero_vectors_give_finite_results",
    ),
    # Segments and padding
    Mutation(
        "segments: padding sorted first",
        "ops/hashing.py",
        "return order.gather(-1, ((place + n_padding) % order.shape[-1]).expand_as(order))",
        "return order",
        f"{HASHING}::test_sort_is_by_segment_bucket_and_position_padding_last",
    ),
    Mutation(
        "segments: padding sees padding",
        "ops/tiled_attention/plan.py",
        "low, high = low.masked_fill(is_padding, 0), high.masked_fill(is_padding, 0)",
        "pass",
        f"{PROPERTIES}::test_what_padding_holds_does_not_matter",
    ),
    Mutation(
        "segments: local chunks counted from the row's start",
        "ops/local_attention/eager.py",
        "chunks_per_run=segments is not None,",
        "chunks_per_run=False,",
        f"{LOCAL}::test_a_segment_has_the_outputs_it_has_alone",
    ),
    Mutation(
        "segments: buckets by the padded length",
        "ops/hashing.py",
        "row_lengths = (segment_ids >= 0).sum(1).tolist()",
        "row_lengths = [L] * B",
        f"{HASHING}::test_a_row_has_the_buckets_it_has_alone_and_unpadded",
    ),
    # Dropout and its replay
    Mutation(
        "dropout: mask does not know the batch",
        "ops/tiled_attention/tile.py",
        "b, h = slab.batch_T // dropout.n_heads, slab.batch_T % dropout.n_heads",
        "b, h = slab.batch_T * 0, slab.batch_T % dropout.n_heads",
        f"{PROPERTIES}::test_dropout_mask_is_the_function_of_seed_and_coordinates",
    ),
    Mutation(
        "dropout: kept weights not scaled up",
        "ops/tiled_attention/forward.py",
        "total = total * (1.0 - dropout.p)",
        "pass",
        f"{PROPERTIES}::test_dropout_mask_is_the_function_of_seed_and_coordinates",
    ),
    Mutation(
        "dropout: hidden units by slice, not by position",
        "ops/chunking.py",
        "active = active * _mask(active, dropout_p, dropout_seed, part.start)",
        "active = active * _mask(active, dropout_p, dropout_seed, 0)",
        "tests/ops/test_chunking.py::test_dropout_does_not_depend_on_the_slices",
    ),
    Mutation(
        "dropout: mode taken when the branch runs, not when it was made",
        "layers/reversible.py",
        "arguments = (x, seed, segment_ids, position_ids, saved, training, memory_segment_ids, *memory)",
        "arguments = (x, seed, segment_ids, position_ids, saved, self.training, memory_segment_ids, *memory)",
        f"{REVERSIBLE}::test_switching_the_mode_between_forward_and_backward",
    ),
    Mutation(
        "dropout: all layers draw the same masks",
        "layers/reversible.py",
        "derive_seed(seed, index, 0)",
        "derive_seed(seed, 0, 0)",
        "tests/layers/test_reversible.py::test_layers_draw_different_masks_and_rotations",
    ),
    # Reversible layers
    Mutation(
        "reversible: recomputation outside autocast",
        "ops/reversible.py",
        "with _autocast(ctx.autocast):\n                arguments = _arguments",
        "with nullcontext():\n                arguments = _arguments",
        f"{REVERSIBLE}::test_lsh_under_autocast_with_the_same_buckets",
    ),
    Mutation(
        "reversible: streams not rebuilt",
        "ops/reversible.py",
        "other, stream = stream - update, other",
        "other, stream = stream, other",
        f"{REVERSIBLE}::test_equals_plain_autograd",
    ),
    Mutation(
        "reversible: buckets computed again",
        "ops/reversible.py",
        "update, _ = branch.function(x, leaves, saved)",
        "update, _ = branch.function(x, leaves, None)",
        f"{REVERSIBLE}::test_buckets_are_reused_in_the_backward",
    ),
    Mutation(
        "reversible: gradient of the residual forgotten",
        "ops/reversible.py",
        "d_other = d_other + d_input",
        "d_other = d_input",
        f"{REVERSIBLE}::test_equals_plain_autograd",
    ),
    Mutation(
        "reversible: a frozen parameter shifts the gradients of the next",
        "ops/reversible.py",
        "d_tensors = tuple(next(found) if p.requires_grad else None for p in leaves)",
        "d_tensors = tuple(next(found, None) for p in leaves)",
        "tests/ops/test_reversible.py::test_every_choice_of_frozen_parameters",
    ),
    Mutation(
        "reversible: hooks fire on the way",
        "ops/reversible.py",
        "leaves = [p.detach().requires_grad_(p.requires_grad) for p in tensors]",
        "leaves = list(tensors)",
        f"{REVERSIBLE}::test_hooks_see_each_gradient_once_and_whole",
    ),
    # Chunking
    Mutation(
        "chunking: gradient of the last slice's weights only",
        "ops/chunking.py",
        "_add_product(dw_in, d_hidden, x_part)",
        "dw_in = d_hidden.t() @ x_part",
        "tests/ops/test_chunking.py::test_equals_the_plain_formula",
    ),
    Mutation(
        "chunking: sums over slices in bfloat16",
        "ops/chunking.py",
        "wide = torch.float64 if x.dtype == torch.float64 else torch.float32",
        "wide = x.dtype",
        "tests/ops/test_chunking.py::test_many_slices_in_bfloat16_lose_nothing",
    ),
    Mutation(
        "cross-entropy: ignored positions have gradients",
        "ops/cross_entropy.py",
        "d_logits *= (grad[:, part].flatten() * counted)[:, None]",
        "d_logits *= grad[:, part].flatten()[:, None]",
        "tests/ops/test_cross_entropy.py::test_equals_the_plain_formula",
    ),
    Mutation(
        "cross-entropy: mean over all positions",
        "ops/cross_entropy.py",
        "(targets != ignore_index).sum().clamp_min(1)",
        "targets.numel()",
        "tests/ops/test_cross_entropy.py::test_equals_torch_cross_entropy",
    ),
    Mutation(
        "cross-entropy: smoothing without its gradient",
        "ops/cross_entropy.py",
        "d_logits -= label_smoothing / weight.shape[0]",
        "pass",
        "tests/ops/test_cross_entropy.py::test_gradients_are_those_of_finite_differences",
    ),
    # Hashing
    Mutation(
        "hashing: ties go to the negative half",
        "ops/hashing.py",
        "torch.where(highest >= -lowest,",
        "torch.where(highest > -lowest,",
        f"{HASHING}::test_ties_go_to_the_lower_index",
    ),
    Mutation(
        "hashing: factors all with stride 1",
        "ops/hashing.py",
        "stride *= factor",
        "pass",
        f"{HASHING}::test_hash_is_the_argmax_of_the_rotated_vector_and_its_negative",
    ),
    Mutation(
        "hashing: in half precision",
        "ops/hashing.py",
        "dtype = torch.float64 if x.dtype == torch.float64 else torch.float32\n    flat_rotations",
        "dtype = x.dtype\n    flat_rotations",
        f"{HASHING}::test_half_precision_is_hashed_in_float32",
    ),
    Mutation(
        "hashing: sort not stable",
        "ops/hashing.py",
        "order = torch.sort(buckets, dim=-1, stable=True).indices",
        "order = torch.sort(buckets.flip(-1), dim=-1, stable=True).indices.mul(-1).add(buckets.shape[-1] - 1)",
        f"{HASHING}::test_sort_is_by_segment_bucket_and_position_padding_last",
    ),
    # Triton kernels (in Triton's interpreter where there is no GPU): masks and counting once
    Mutation(
        "triton mask: interval one place longer",
        "ops/triton/tiles.py",
        "(place < query_end[:, None])",
        "(place <= query_end[:, None])",
        f"{TRITON}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "triton mask: bidirectional sees itself",
        "ops/triton/tiles.py",
        "elif WRAP or (EXCLUDE_SELF and not CAUSAL):",
        "elif WRAP:",
        f"{TRITON}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "triton mask: trax goes across segments",
        "ops/triton/tiles.py",
        "    if WRAP and SEGMENTS:",
        "    if False:",
        f"{TRITON}::test_equals_the_definition_with_segments_and_dropout",
    ),
    Mutation(
        "triton mask: trax does not wrap",
        "ops/triton/tiles.py",
        "tokens_at(order_n, slot % total, total)",
        "tokens_at(order_n, slot, total)",
        f"{TRITON}::test_reach_equals_the_definition",
    ),
    Mutation(
        "triton mask: segments compared in 32 bits",
        "ops/triton/tiles.py",
        "key_segment = tl.load(segments_b + key)[None, :]",
        "key_segment = tl.load(segments_b + key).to(tl.int32)[None, :]",
        f"{TRITON}::test_segments_whose_ids_differ_beyond_32_bits",
    ),
    Mutation(
        "triton count once: a pair counts in every round",
        "ops/triton/tiles.py",
        "for _ in range(0, r):",
        "for _ in range(0, 0):",
        f"{TRITON}::test_a_pair_counts_once_in_however_many_rounds",
    ),
    Mutation(
        "triton count once: only the first round is remembered",
        "ops/triton/tiles.py",
        "            rank_n += L\n",
        "",
        f"{TRITON}::test_equals_the_definition_at_every_length",
    ),
    # Merging tiles and rounds
    Mutation(
        "triton merge: values of earlier tiles not scaled down",
        "ops/triton/forward.py",
        "acc * shrink[:, None]",
        "acc",
        f"{TRITON}::test_windows_and_buckets_of_many_tiles",
    ),
    Mutation(
        "triton merge: the first rounds forgotten",
        "ops/triton/forward.py",
        "resume = after_first(real, r)",
        "resume = after_first(real, 0)",
        f"{TRITON}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "triton self: trax counts itself once",
        "ops/triton/forward.py",
        "itself += tl.log2(tl.where(nobody, seen_self, 1.0)) * LN2",
        "itself += 0.0",
        f"{TRITON}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "triton padding: what it holds reaches dq",
        "ops/triton/backward.py",
        "key_inverse = tl.load(inverse + key, mask=key_real, other=0.0)",
        "key_inverse = tl.load(inverse + key)",
        f"{TRITON}::test_what_padding_holds_does_not_matter",
    ),
    Mutation(
        "triton dropout: mask does not know the head",
        "ops/triton/tiles.py",
        "_combine(_combine(seed, n // n_heads), n % n_heads)",
        "_combine(_combine(seed, n // n_heads), n * 0)",
        f"{TRITON}::test_equals_the_definition_with_segments_and_dropout",
    ),
    Mutation(
        "triton dropout: every slab is the first",
        "ops/triton/launch.py",
        "        rows.start,\n",
        "        0,\n",
        f"{TRITON}::test_tiles_of_other_sizes_and_slabs_of_one_row",
    ),
    # Gradients of the Triton kernels, term by term
    Mutation(
        "triton gradient: delta without the gradient of lse",
        "ops/triton/launch.py",
        "delta = row_dots(do, out) - dlse",
        "delta = row_dots(do, out)",
        f"{TRITON}::test_either_output_alone_can_be_differentiated",
    ),
    Mutation(
        "triton gradient: values by undropped weights",
        "ops/triton/backward.py",
        "        dropped = p * mask\n",
        "",
        f"{TRITON}::test_equals_the_definition_with_segments_and_dropout",
    ),
    Mutation(
        "triton gradient: scale once too few in dk",
        "ops/triton/backward.py",
        "    acc_k *= scale\n",
        "",
        f"{TRITON}::test_equals_the_definition_with_segments_and_dropout",
    ),
    Mutation(
        "triton gradient: keys not projected off their own direction",
        "ops/triton/backward.py",
        "acc_k = (acc_k - unit * tl.sum(unit * acc_k, 1)[:, None]) * key_inverse[:, None]",
        "acc_k = acc_k * key_inverse[:, None]",
        f"{TRITON}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "triton gradient: the last query tile that sees a key is left out",
        "ops/triton/intervals.py",
        "_bound_at(coded, start, middle, L) >= edge",
        "_bound_at(coded, start, middle, L) >= edge - STEP",
        "tests/ops/test_triton_plan.py",
    ),
    Mutation(
        "triton plan: a run goes on into the next segment",
        "ops/triton/intervals.py",
        "same = same & (tl.load(segments_b + token) == segment)",
        "same = same & (tl.load(segments_b + token) <= segment)",
        "tests/ops/test_triton_plan.py",
    ),
    Mutation(
        "triton plan: a window of one place less",
        "ops/triton/intervals.py",
        "low = tl.maximum(low, place - window)",
        "low = tl.maximum(low, place - window + 1)",
        "tests/ops/test_triton_plan.py",
    ),
    Mutation(
        "seeds: the sign of a seed's upper half is lost",
        "ops/counter_rng.py",
        "(seed >> 32) % _WORD)",
        "abs(seed >> 32) % _WORD)",
        "tests/ops/test_counter_rng.py",
    ),
    Mutation(
        # Its twin for dk has no effect, as in the eager one.
        "triton gradient: lse does not reach a lone token's query",
        "ops/triton/backward.py",
        "acc += load_rows(k, query, by_itself, D, BLOCK_D).to(tl.float32) * ds_self[:, None]",
        "pass",
        f"{TRITON}::test_either_output_alone_can_be_differentiated",
    ),
    Mutation(
        "triton gradient: float16 divides by a tiny norm first",
        "ops/triton/backward.py",
        "if k_rows.dtype == tl.float16:",
        "if False:",
        f"{TRITON}::test_zero_and_tiny_vectors_give_finite_results",
    ),
    # The fused hash
    Mutation(
        "triton hashing: ties go to the negative half",
        "ops/triton/hashing.py",
        "tl.where(highest >= -lowest,",
        "tl.where(highest > -lowest,",
        f"{TRITON_HASHING}::test_ties_go_to_the_lower_index",
    ),
    Mutation(
        "triton hashing: a later block wins a tie",
        "ops/triton/hashing.py",
        "tl.where(value > highest, at, at_highest)",
        "tl.where(value >= highest, at, at_highest)",
        f"{TRITON_HASHING}::test_equals_the_plain_hash_ties_included",
    ),
    Mutation(
        "triton hashing: a negative column is a positive one",
        "ops/triton/hashing.py",
        "at_lowest + half",
        "at_lowest",
        f"{TRITON_HASHING}::test_equals_the_plain_hash_ties_included",
    ),
    Mutation(
        "triton hashing: factors all with stride 1",
        "ops/triton/hashing.py",
        "stride * factor",
        "stride",
        f"{TRITON_HASHING}::test_equals_the_plain_hash_ties_included",
    ),
    Mutation(
        "triton hashing: all heads turn alike",
        "ops/triton/hashing.py",
        "(n % n_heads).to(tl.int64)",
        "(n * 0).to(tl.int64)",
        f"{TRITON_HASHING}::test_equals_the_plain_hash_ties_included",
    ),
    # Causal shift and positions
    Mutation(
        "causal: full attention by sdpa sees itself",
        "ops/full_attention.py",
        "keys = unit_keys(q[:, :, :-1])",
        "keys = unit_keys(q[:, :, 1:])",
        f"{FULL}::test_sdpa_equals_the_definition",
    ),
    Mutation(
        "causal: inputs not shifted",
        "models/language_model.py",
        "return torch.cat([torch.full_like(tokens[:, :1], self.config.start_id), tokens[:, :-1]], dim=1)",
        "return tokens",
        f"{MODEL}::test_shift_right",
    ),
    Mutation(
        "positions: counted from the row's start",
        "models/trunk.py",
        "position_ids = places_in_segments(segment_ids)",
        "position_ids = None",
        f"{MODEL}::test_padding_on_either_side_is_inert",
    ),
    Mutation(
        "positions: column-major axes",
        "layers/positions.py",
        "for size, table in zip(self.shape, self.tables):",
        "for size, table in list(zip(self.shape, self.tables))[::-1]:",
        "tests/layers/test_positions.py::test_coordinates_by_hand",
    ),
    Mutation(
        "positions: rotation the same everywhere",
        "layers/positions.py",
        "first * cos - second * sin, second * cos + first * sin",
        "first * cos - second * sin, second * cos - first * sin",
        "tests/layers/test_positions.py",
    ),
    Mutation(
        "positions: not handed to rotary layers",
        "layers/attention.py",
        "q = rotate(q, position_ids)",
        "q = rotate(q)",
        f"{MODEL}::test_padding_on_either_side_is_inert",
    ),
    # The C++ kernels: who sees whom
    Mutation(
        "native mask: chunk edge one place late",
        "csrc/plan.cpp",
        "low = std::max(low, base + (chunk - request.chunks_before) * request.chunk_len);",
        "low = std::max(low, base + (chunk - request.chunks_before) * request.chunk_len + 1);",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "native mask: window one place wider",
        "csrc/plan.cpp",
        "high = std::min(high, place + request.window + 1);",
        "high = std::min(high, place + request.window + 2);",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "native mask: causal sees itself",
        "csrc/plan.cpp",
        "request.exclude_self ? place : place + 1",
        "place + 1",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "native mask: bidirectional sees itself",
        "csrc/tile.h",
        "if (a_.exclude_self && !a_.causal) {",
        "if (false) {",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "native mask: buckets do not separate",
        "csrc/plan.cpp",
        "segment(last) == its_segment && bucket(last) == its_bucket",
        "segment(last) == its_segment && bucket(last) >= its_bucket",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "native mask: trax goes across segments",
        "csrc/tile.h",
        "sees[v] &= splat(key_segment_[j]) == segments;",
        "sees[v] &= splat(key_segment_[j]) >= segments - segments;",
        f"{PROPERTIES}::test_a_segment_does_not_see_another",
    ),
    Mutation(
        "native mask: trax does not wrap",
        "csrc/tile.h",
        "around = ((place % total) + total) % total;",
        "around = std::clamp<int64_t>(place, 0, total - 1);",
        f"{LSH}::test_every_implementation_equals_the_oracle",
    ),
    Mutation(
        "native mask: a bad order is taken",
        "csrc/plan.cpp",
        "if (places[3 * R * order[place]] != place) return {0, 0, false};",
        "",
        f"{NATIVE}::test_an_order_that_is_none_is_refused",
    ),
    Mutation(
        "native count once: only the first round is remembered",
        "csrc/tile.h",
        "for (int32_t earlier = 0; earlier < round_; ++earlier) {",
        "for (int32_t earlier = 0; earlier < std::min(round_, 1); ++earlier) {",
        f"{LSH}::test_equals_the_definition_at_every_length",
    ),
    # The C++ kernels: softmax
    Mutation(
        "native merge: values of earlier tiles not scaled down",
        "csrc/forward.h",
        "store(rescale + v * W, factor);",
        "store(rescale + v * W, splat(1.0f));",
        f"{NATIVE}::test_a_running_maximum_that_grows_from_tile_to_tile",
    ),
    Mutation(
        "native merge: total of earlier tiles forgotten",
        "csrc/forward.h",
        "store(sum, load(sum) * load(rescale + v * W) + total[v]);",
        "store(sum, total[v]);",
        f"{LSH}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "native merge: the last key tile is left out",
        "csrc/forward.h",
        "first < tile.reach.end;",
        "first == tile.reach.begin ? first < tile.reach.end : first + tile.capacity < tile.reach.end;",
        f"{NATIVE}::test_runs_of_many_key_tiles",
    ),
    Mutation(
        "native merge: what is not a number counts as nothing",
        "csrc/vector.h",
        "return x > splat(-87.3f) ? power : keep_if(x != x, x);",
        "return x > splat(-87.3f) ? power : vf{};",
        f"{NATIVE}::test_what_is_not_finite_is_not_hidden",
    ),
    Mutation(
        "native self: trax counts itself once",
        "csrc/forward.h",
        "a.lse[at] = plan.wrap ? logit + std::log(static_cast<float>(times_seen(plan, n, token))) : logit;",
        "a.lse[at] = logit;",
        f"{LSH}::test_one_token_attends_to_itself",
    ),
    Mutation(
        "native dropout: mask does not know the head",
        "csrc/random.h",
        "static_cast<uint32_t>(b)), static_cast<uint32_t>(h))",
        "static_cast<uint32_t>(b)), static_cast<uint32_t>(h - h))",
        f"{PROPERTIES}::test_dropout_mask_is_the_function_of_seed_and_coordinates",
    ),
    # The C++ kernels: gradients, term by term
    Mutation(
        "native gradient: values by undropped weights",
        "csrc/backward.h",
        "weight = keep_if(keeps[v], p * a.drop_factor);",
        "weight = p;",
        f"{LSH}::test_equals_the_definition_with_segments_and_dropout",
    ),
    Mutation(
        "native gradient: weights by undropped values",
        "csrc/backward.h",
        "dp = keep_if(keeps[v], dp * a.drop_factor);",
        "",
        f"{LSH}::test_equals_the_definition_with_segments_and_dropout",
    ),
    Mutation(
        "native gradient: no delta",
        "csrc/backward.h",
        "p * (dp - delta[v])",
        "p * dp",
        f"{LSH}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "native gradient: delta without the gradient of lse",
        "csrc/backward.h",
        "sums[i / W][i % W] - a.grad_lse[n * a.length + block + i]",
        "sums[i / W][i % W]",
        f"{LSH}::test_either_output_alone_can_be_differentiated",
    ),
    Mutation(
        "native gradient: scale once too few",
        "csrc/backward.h",
        "add_row(g.q + i * tile.D, a.scale,",
        "add_row(g.q + i * tile.D, 1.0f,",
        f"{LSH}::test_equals_the_definition_with_segments_and_dropout",
    ),
    Mutation(
        "native gradient: none of the queries",
        "csrc/backward.h",
        "add_row(g.q + i * tile.D, a.scale,",
        "add_row(g.q + i * tile.D, 0.0f,",
        f"{LSH}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "native gradient: none of shared keys",
        "csrc/backward.h",
        "combine_rows<false>(g.logits + at, tile.q + query * D, D, own.end - own.begin, kOnes, g.k + first * D);",
        "",
        f"{LSH}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "native gradient: none of separate keys",
        "csrc/backward.h",
        "add_row(g.k + j * tile.D, 1.0f,",
        "add_row(g.k + j * tile.D, 0.0f,",
        f"{LOCAL}::test_gradients_equal_the_definition",
    ),
    Mutation(
        "native gradient: values of the last key tile only",
        "csrc/backward.h",
        "add_row(g.v + j * tile.E, 1.0f,",
        "add_row(g.v + j * tile.E, tile.reach.end > tile.first_key + tile.keys ? 0.0f : 1.0f,",
        f"{NATIVE}::test_runs_of_many_key_tiles",
    ),
    Mutation(
        "native gradient: keys not projected off their own direction",
        "csrc/backward.h",
        "to[d] += (grad[d] - unit[d] * along) * inverse;",
        "to[d] += (grad[d] - unit[d] * along * 0.0f) * inverse;",
        f"{LSH}::test_equals_the_definition_at_every_length",
    ),
    Mutation(
        "native gradient: zero vectors divide by zero",
        "csrc/backward.h",
        "return squared == 0.0f ? 0.0f : 1.0f / std::sqrt(squared);",
        "return 1.0f / std::sqrt(squared);",
        f"{LSH}::test_zero_vectors_give_finite_results",
    ),
    Mutation(
        "native gradient: of lse does not reach a lone token's query",
        "csrc/backward.h",
        "add_row(k, ds, a.key_width, float_row(a.dq, b, h, t));",
        "",
        f"{LSH}::test_equals_the_definition_at_every_length",
    ),
    # The C++ kernels: threads and interrupts
    Mutation(
        "native threads: neighbouring spans at a time",
        "csrc/attention.cpp",
        "colours = count == 1 ? 1 : 1 + (plan.reach_back > 0) + (plan.reach_ahead > 0);",
        "colours = 1;",
        f"{NATIVE}::test_same_bytes_over_many_spans",
    ),
    Mutation(
        "native threads: look-ahead has no colour",
        "csrc/attention.cpp",
        "1 + (plan.reach_back > 0) + (plan.reach_ahead > 0)",
        "1 + (plan.reach_back > 0)",
        f"{NATIVE}::test_same_bytes_of_local_attention_over_many_spans",
    ),
    Mutation(
        "native threads: a span shorter than the reach",
        "csrc/attention.cpp",
        "std::max(plan.reach_back, plan.reach_ahead)",
        "int64_t{0}",
        f"{NATIVE}::test_same_bytes_over_many_spans",
    ),
    Mutation(
        "native interrupt: asked for between spans only",
        "csrc/attention.cpp",
        "if (thread == 0) interrupt.ask();",
        "",
        f"{ENGINE}::test_ctrl_c_stops_a_call_and_the_process_goes_on",
    ),
    # The C++ kernels: hashing and sorting
    Mutation(
        "native hashing: ties go to the negative half",
        "csrc/hash.h",
        "highest[v] >= -lowest[v]",
        "highest[v] > -lowest[v]",
        f"{HASHING}::test_ties_go_to_the_lower_index",
    ),
    Mutation(
        "native hashing: ties go to the later column",
        "csrc/hash.h",
        "at_lowest[v] = product < lowest[v] ? column : at_lowest[v];",
        "at_lowest[v] = product <= lowest[v] ? column : at_lowest[v];",
        f"{HASHING}::test_native_hash_equals_that_of_torch",
    ),
    Mutation(
        "native hashing: columns counted from their tile's first",
        "csrc/hash.h",
        "const vi column = splat(static_cast<int32_t>(first + c));",
        "const vi column = splat(static_cast<int32_t>(c));",
        f"{HASHING}::test_native_hash_equals_that_of_torch",
    ),
    Mutation(
        "native sort: digits with a gap between them",
        "csrc/plan.cpp",
        "shift += kDigitBits)",
        "shift += kDigitBits + 1)",
        f"{HASHING}::test_native_sort_equals_that_of_torch",
    ),
    Mutation(
        "native sort: padding sorted first",
        "csrc/plan.cpp",
        "segments[token] < 0 ? int64_t{highest} + 1 :",
        "segments[token] < 0 ? int64_t{-1} :",
        f"{HASHING}::test_sort_is_by_segment_bucket_and_position_padding_last",
    ),
    Mutation(
        "native sort: the bucket is forgotten",
        "csrc/plan.cpp",
        "const int32_t token = from == nullptr ? static_cast<int32_t>(place) : from[place];",
        "const int32_t token = static_cast<int32_t>(place);",
        f"{HASHING}::test_sort_is_by_segment_bucket_and_position_padding_last",
    ),
    # Diagnostics
    Mutation(
        "inspect: a query sees itself",
        "inspection/visibility.py",
        "    others = counts * ~is_self\n",
        "    others = counts * 1\n",
        INSPECT_SETS,
    ),
    Mutation(
        "inspect: a lone query sees nothing",
        "inspection/visibility.py",
        "return others + alone",
        "return others",
        INSPECT_SETS,
    ),
    Mutation(
        "inspect: the last place of an interval is seen",
        "inspection/visibility.py",
        "(rank < end)",
        "(rank <= end)",
        INSPECT_SETS,
    ),
    Mutation(
        "inspect: other segments are seen",
        "inspection/visibility.py",
        "(mine == segments[:, None]) & (mine >= 0)",
        "(mine >= 0) & (segments >= 0)[:, None]",
        INSPECT_SETS,
    ),
    Mutation(
        "inspect: trax does not wrap",
        "inspection/visibility.py",
        "(mine + offset) % (n_rounds * per_round)",
        "(mine + offset).clamp(0, n_rounds * per_round - 1)",
        INSPECT_SETS,
    ),
    Mutation(
        "inspect: same bucket in the first round only",
        "inspection/visibility.py",
        "self.buckets[:, :, :rounds].unbind(2)",
        "self.buckets[:, :, :1].unbind(2)",
        INSPECT_SETS,
    ),
    Mutation(
        "inspect: top-k over k, however few keys there are",
        "inspection/statistics.py",
        "self.n_keys.clamp(1, k) for",
        "self.n_keys.clamp(k, k) for",
        INSPECT_SUMS,
    ),
    Mutation(
        "inspect: a pair seen twice counts once",
        "inspection/statistics.py",
        "counts.to(logits.dtype).log()",
        "counts.clamp(max=1).to(logits.dtype).log()",
        INSPECT_SUMS,
    ),
    Mutation(
        "inspect: keys are not normalised",
        "inspection/statistics.py",
        "unit_keys(q) if k is None else k",
        "q if k is None else k",
        INSPECT_SUMS,
    ),
    Mutation(
        "inspect: only the last block counts",
        "inspection/statistics.py",
        "total[name] + value if name in total else value",
        "value",
        INSPECT_SUMS,
    ),
    Mutation(
        "inspect: rounds beyond the model's own in its attention",
        "inspection/statistics.py",
        "own_view=list(rounds).index(own_rounds)",
        "own_view=0",
        INSPECT_SUMS,
    ),
    Mutation(
        "inspect: q without its norm",
        "inspection/capture.py",
        "attention.project(branch.norm(x), position_ids)",
        "attention.project(x, position_ids)",
        INSPECT_ROWS,
    ),
    Mutation(
        "inspect: more rounds in the place of the model's",
        "inspection/summary.py",
        "torch.cat([captured.buckets, more.to(captured.buckets.dtype)], dim=2)",
        "torch.cat([more.to(captured.buckets.dtype), captured.buckets], dim=2)",
        INSPECT_ROWS,
    ),
    Mutation(
        "inspect: the last window replaces the others",
        "inspection/summary.py",
        "value[..., : short.shape[-1]] += short",
        "pass",
        INSPECT_ROWS,
    ),
    Mutation(
        "inspect: a lone token per bucket is no token",
        "inspection/occupancy.py",
        "sizes.double() / sizes.sum(-1, keepdim=True).clamp_min(1)",
        "sizes.double() / sizes.sum(-1, keepdim=True).clamp_min(10)",
        INSPECT_ROWS,
    ),
    Mutation(
        "inspect: windows share one seed",
        "inspection/summary.py",
        "capture(model, torch.from_numpy(window)[None].to(device), seed + number, receive)",
        "capture(model, torch.from_numpy(window)[None].to(device), seed, receive)",
        INSPECT_ROWS,
    ),
    # Decoding and generation
    Mutation(
        "decoding: a chunk edge one place late",
        "csrc/decode.h",
        "up_to(r, s_.bucket[r]) % d_.chunk_len +",
        "(up_to(r, s_.bucket[r]) + 1) % d_.chunk_len +",
        f"{DECODING}::test_lsh_steps_see_what_the_last_token_of_the_prefix_sees",
    ),
    Mutation(
        "decoding: a token in two rounds' lists counts twice",
        "csrc/decode.h",
        "if (s_.cursor[r] == next) s_.cursor[r] = --s_.left[r] > 0 ? before[r] : -1;",
        "if (s_.cursor[r] == next) { s_.cursor[r] = --s_.left[r] > 0 ? before[r] : -1; break; }",
        f"{DECODING}::test_lsh_steps_see_what_the_last_token_of_the_prefix_sees",
    ),
    Mutation(
        "decoding: a tie between the halves goes to the second",
        "csrc/decode.h",
        "*highest >= -*lowest",
        "*highest > -*lowest",
        f"{DECODING}::test_every_instruction_set_hashes_to_the_same_buckets_and_attends_alike",
    ),
    Mutation(
        "decoding: trax sees itself",
        "csrc/decode.h",
        "if (order[place] != count) s_.seen",
        "s_.seen",
        f"{DECODING}::test_lsh_steps_see_what_the_last_token_of_the_prefix_sees",
    ),
    Mutation(
        "decoding: padding enters the lists",
        "csrc/decode.h",
        "if (d_.is_real != nullptr && !d_.is_real[b_ * d_.tokens + t])",
        "if (false)",
        f"{DECODING}::test_lsh_steps_see_what_the_last_token_of_the_prefix_sees",
    ),
    Mutation(
        "decoding: the lists of the prompt are left empty",
        "ops/decoding/api.py",
        "cache.native.rebuild(cache, counts)",
        "pass",
        f"{DECODING}::test_lsh_steps_see_what_the_last_token_of_the_prefix_sees",
    ),
    Mutation(
        "decoding: a window one place short",
        "ops/decoding/eager.py",
        "n_newer <= reach.window",
        "n_newer < reach.window",
        f"{DECODING}::test_lsh_steps_see_what_the_last_token_of_the_prefix_sees",
    ),
    Mutation(
        "decoding: trax chunks of the prefix without its last token",
        "ops/decoding/eager.py",
        "(place[:, None, None, None] + m) // m",
        "(place[:, None, None, None] + m - 1) // m",
        f"{DECODING}::test_lsh_steps_see_what_the_last_token_of_the_prefix_sees",
    ),
    Mutation(
        "decoding: a local layer forgets too early",
        "ops/decoding/cache.py",
        "(self.n_chunks_before + 1) * self.chunk_len",
        "self.n_chunks_before * self.chunk_len + 1",
        f"{DECODING}::test_steps_by_position_see_what_the_last_token_of_the_prefix_sees",
    ),
    Mutation(
        "decoding: memory that grows is not copied",
        "ops/decoding/cache.py",
        "longer.narrow(axis, 0, x.shape[axis]).copy_(x)",
        "pass",
        f"{DECODING_STATE}::test_memory_that_grows_changes_nothing",
    ),
    Mutation(
        "decoding: rotations of another seed",
        "models/decoding.py",
        "derive_seed(as_seed(seed), STACK_SEED)",
        "as_seed(seed)",
        DECODED_MODEL,
    ),
    Mutation(
        "decoding: padding takes a position",
        "models/decoding.py",
        "before + is_real.cumsum(1) - 1",
        "before + is_real.cumsum(1) * 0 + torch.arange(T)",
        DECODED_MODEL,
    ),
    Mutation(
        "decoding: an update reads the wrong stream",
        "layers/decoding.py",
        "_feed_forward(layer.feed_forward, x2)",
        "_feed_forward(layer.feed_forward, x1)",
        DECODED_MODEL,
    ),
    Mutation(
        "decoding: lists are not reordered",
        "ops/decoding/cache.py",
        "self.native.reorder(self, rows)",
        "pass",
        f"{DECODING_STATE}::test_reordered_rows_go_on_as_the_rows_they_were",
    ),
    Mutation(
        "generation: rows share their random numbers",
        "generation/sampling.py",
        "generator=generators[row]",
        "generator=generators[0]",
        "tests/generation/test_sampling.py",
    ),
    Mutation(
        "generation: a stop string across tokens is missed",
        "generation/stopping.py",
        "kept = max(map(len, self.strings)) - 1",
        "kept = max(map(len, self.strings)) - 2",
        "tests/generation/test_stopping.py",
    ),
    Mutation(
        "generation: the search ends too early",
        "generation/beam_search.py",
        "_length_penalty(n_tokens, alpha)",
        "_length_penalty(1, alpha)",
        "tests/generation/test_beam_search.py",
    ),
    Mutation(
        "models: the tied head reads the first half only",
        "models/head.py",
        "return first + second, embedding",
        "return first + first, embedding",
        "tests/models/test_tied.py",
    ),
    Mutation(
        "hf: a row's last token is that of the batch",
        "hf/inputs.py",
        "torch.where(last < 0, length - 1, last)",
        "torch.full_like(last, length - 1)",
        "tests/hf/test_heads.py",
    ),
    Mutation(
        "hf: padding takes part in the mean",
        "hf/classification.py",
        "hidden.masked_fill(~real, 0.0).sum(1)",
        "hidden.sum(1)",
        "tests/hf/test_heads.py",
    ),
    Mutation(
        "hf: the loss counts what padding predicts",
        "hf/inputs.py",
        "(segment_ids[:, :-1] < 0) | (segment_ids[:, 1:] < 0)",
        "segment_ids[:, 1:] < 0",
        "tests/hf/test_heads.py",
    ),
    Mutation(
        "hf: accumulated gradients are of a mean",
        "hf/losses.py",
        'reduction="mean" if n_items is None else "sum"',
        'reduction="mean"',
        "tests/hf/test_heads.py",
    ),
    Mutation(
        "hf: the cache is told the wrong end of the mask",
        "hf/cache.py",
        "segment_ids[:, -new:]",
        "segment_ids[:, :new]",
        "tests/hf/test_generation.py",
    ),
    Mutation(
        "hf: generation ignores its seed once it has a cache",
        "hf/modeling.py",
        "seed = self.config.hash_seed if seed is None else seed",
        "seed = self.config.hash_seed",
        "tests/hf/test_generation.py",
    ),
    Mutation(
        "hf: a generation may be one token too long",
        "hf/generation.py",
        "n_inputs <= longest",
        "n_inputs <= longest + 1",
        "tests/hf/test_generation.py",
    ),
    Mutation(
        "hf: start and mask lose their rows to a larger vocabulary",
        "hf/resizing.py",
        "torch.cat([rows, old[before:]])",
        "torch.cat([rows, rows[-2:]])",
        "tests/hf/test_resizing.py",
    ),
    Mutation(
        "hf: a new head starts as transformers' heads do",
        "hf/modeling.py",
        "nn.init.xavier_uniform_(module.weight)",
        "nn.init.normal_(module.weight, std=0.02)",
        "tests/hf/test_saving.py",
    ),
    Mutation(
        "hf: text is replaced, not kept",
        "hf/tokenization.py",
        'token.encode("latin-1") if len(token) == 1 else token.encode()',
        "token.encode()",
        "tests/hf/test_tokenization.py",
    ),
    # Pictures
    Mutation(
        "pictures: planes are not interleaved",
        "data/images/npz.py",
        "planes.transpose(0, 2, 3, 1)",
        "planes.reshape(-1, size, size, 3)",
        f"{IMAGES}test_preparing.py",
    ),
    Mutation(
        "pictures: EXIF is not looked at",
        "data/images/decoding.py",
        "turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))",
        "turn = None",
        f"{IMAGES}test_decoding.py",
    ),
    Mutation(
        "pictures: cut from the top left",
        "data/images/decoding.py",
        "left, top = (width - side) // 2, (height - side) // 2",
        "left, top = 0, 0",
        f"{IMAGES}test_decoding.py",
    ),
    Mutation(
        "pictures: reduced by another filter",
        "data/images/decoding.py",
        "Resampling.BOX",
        "Resampling.NEAREST",
        f"{IMAGES}test_decoding.py",
    ),
    Mutation(
        "pictures: over black",
        "data/images/decoding.py",
        "_WHITE = (255, 255, 255, 255)",
        "_WHITE = (0, 0, 0, 255)",
        f"{IMAGES}test_decoding.py",
    ),
    Mutation(
        "pictures: Pillow's warning of a bomb is not minded",
        "data/images/decoding.py",
        'warnings.simplefilter("error", Image.DecompressionBombWarning)',
        'warnings.simplefilter("ignore", Image.DecompressionBombWarning)',
        f"{IMAGES}test_decoding.py",
    ),
    Mutation(
        "pictures: an entry may expand to anything",
        "data/images/reading.py",
        "if len(data) > MAX_FILE_BYTES:",
        "if len(data) < 0:",
        f"{IMAGES}test_preparing.py",
    ),
    Mutation(
        "pictures: split by name",
        "data/images/preparing.py",
        "split = rule.split_of(name, digest_of(raster))",
        "split = rule.split_of(name, hashlib.sha256(name.encode()).digest())",
        f"{IMAGES}test_preparing.py",
    ),
    Mutation(
        "pictures: prepared for one size, used for all",
        "data/images/preparing.py",
        'f"pictures {_FORMAT} {size} {here}"',
        'f"pictures {_FORMAT} {here}"',
        f"{IMAGES}test_preparing.py",
    ),
    Mutation(
        "pictures: every epoch in the same order",
        "data/sampling.py",
        "shuffled(n_rows, seed=seed, epoch=epoch)[row]",
        "shuffled(n_rows, seed=seed)[row]",
        IMAGE_TASK,
    ),
    Mutation(
        "pictures: inputs are not shifted",
        "training/image_task.py",
        "return shift_right(targets, config.model.start_id), targets",
        "return targets, targets",
        IMAGE_TASK,
    ),
    Mutation(
        "pictures: evaluated in the order of the folder",
        "training/image_task.py",
        "found[order[: max(1, limit // self.config.seq_len)]]",
        "found[: max(1, limit // self.config.seq_len)]",
        IMAGE_TASK,
    ),
    Mutation(
        "pictures: completed from other rows",
        "generation/pictures.py",
        "np.concatenate([given, found], axis=1)",
        "np.concatenate([found, given], axis=1)",
        "tests/generation/test_pictures.py",
    ),
    # Encoder-decoder and translation
    Mutation(
        "encoder-decoder: the memory's gradient of one layer only",
        "ops/reversible.py",
        "d_shared = [_sum(a, b) for a, b in zip(d_shared, d_arguments[n_own:])]",
        "d_shared = list(d_arguments[n_own:])",
        "tests/ops/test_reversible.py",
    ),
    Mutation(
        "encoder-decoder: source padding is seen",
        "layers/reversible.py",
        "self._branch(layer.cross_attention, cross_seed, segment_ids, None, memory_segment_ids, True)",
        "self._branch(layer.cross_attention, cross_seed, segment_ids, None, None, True)",
        ENCODER_DECODER,
    ),
    Mutation(
        "beam search: a prompt of no tokens keeps its row",
        "generation/beam_search.py",
        "    if 0 < len(going_on) < len(searches):",
        "    if False:",
        "tests/generation/test_beam_search.py",
    ),
    Mutation(
        "packed translation: one token less than there is room for",
        "generation/translation.py",
        "min(limit, longest - len(source)) for",
        "min(limit, longest - len(source) - 1) for",
        "tests/generation/test_translation.py",
    ),
    Mutation(
        "sampling: cold logits are divided before their maximum is taken off",
        "generation/filters.py",
        "    relative = logits - logits.amax(-1, keepdim=True)",
        "    relative = logits",
        "tests/generation/test_filters.py",
    ),
    Mutation(
        "pictures: a zip's backslashes are part of a name",
        "data/images/reading.py",
        """info.filename.replace("\\\\", "/")""",
        "info.filename",
        "tests/data/images/test_preparing.py::test_a_zip_with_the_separators_of_windows_gives_the_same",
    ),
    Mutation(
        "translation: pairs that are not scored are not named",
        "training/translation_evaluation.py",
        'which have an empty side)" if n else ""',
        'which have an empty side)" if n < 0 else ""',
        "tests/training/test_translation.py::test_pairs_that_are_not_scored_are_named",
    ),
    Mutation(
        "training: a finished run writes its card again",
        "training/loop.py",
        "            if state.step == config.steps and is_finished(self.directory):",
        "            if False:",
        "tests/training/test_loop.py",
    ),
    Mutation(
        "encoder-decoder: packed pairs read one another's sources",
        "layers/reversible.py",
        "self._branch(layer.cross_attention, cross_seed, segment_ids, None, memory_segment_ids, True)",
        "self._branch(layer.cross_attention, cross_seed, None, None, memory_segment_ids, True)",
        ENCODER_DECODER,
    ),
    Mutation(
        "encoder-decoder: the streams do not swap after a layer of three",
        "layers/reversible.py",
        "            branches.append(self._branch(layer.feed_forward, feed_forward_seed, segment_ids, position_ids))",
        "            branches.insert(1, self._branch(layer.feed_forward, feed_forward_seed, segment_ids, position_ids))",
        ENCODER_DECODER,
    ),
    Mutation(
        "encoder-decoder: rows of a beam keep another row's source",
        "models/encoder_decoder.py",
        "self.memory = self.memory.rows(rows.long().to(self.decoder.counts.device))",
        "self.memory = self.memory.rows(rows.long().sort().values.to(self.decoder.counts.device))",
        "tests/models/test_encoder_decoder_decoding.py",
    ),
    Mutation(
        "cross-attention: a row of padding is averaged",
        "ops/dense.py",
        "    return torch.where(something, out, 0.0)",
        "    return out",
        "tests/ops/test_cross_attention.py",
    ),
    Mutation(
        "full attention, dense: a lone token sees nobody",
        "ops/full_attention.py",
        "visible = others | (visible & itself & ~others.any(-1, keepdim=True))",
        "visible = others",
        FULL,
    ),
    Mutation(
        "beam search: parents are rows of their own prompt",
        "generation/beam_search.py",
        "rows += [first + parent for parent in parents]",
        "rows += parents",
        "tests/generation/test_translation.py",
    ),
    Mutation(
        "pairs: an epoch is like the one before",
        "data/pairs/batches.py",
        "members[shuffled(len(members), seed=self.seed, epoch=epoch)]",
        "members[shuffled(len(members), seed=self.seed, epoch=0)]",
        "tests/data/pairs/test_batches.py",
    ),
    Mutation(
        "pairs: the vocabulary learns from one side",
        "data/pairs/preparing.py",
        "itertools.chain.from_iterable(train)",
        "(pair[0] for pair in train)",
        "tests/data/pairs/test_preparing.py",
    ),
    Mutation(
        "translation: labels are not smoothed",
        "training/translation_task.py",
        'return self._loss(model, batch, seed, "mean", self.config.label_smoothing)',
        'return self._loss(model, batch, seed, "mean", 0.0)',
        TRANSLATION,
    ),
    Mutation(
        "packed translation: the source is predicted too",
        "training/translation_task.py",
        "np.concatenate([np.full_like(s, _NOT_COUNTED), t])",
        "np.concatenate([s, t])",
        TRANSLATION,
    ),
    Mutation(
        "averaging: the newest checkpoint counts twice",
        "training/averaging.py",
        "for path in reversed(paths[-n:-1]):",
        "for path in reversed(paths[-n + 1 :]):",
        "tests/training/test_averaging.py",
    ),
)

# The editable install puts its own finder before sys.path, so it is taken out before anything is imported.
_BOOTSTRAP = """
import sys
copy, selection = sys.argv[1:]
sys.meta_path = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
sys.path.insert(0, copy)
import reformer
assert reformer.__file__.startswith(copy), f"{reformer.__file__} is not the mutated copy"
import pytest
sys.exit(pytest.main(["-x", "-q", "--no-header", "-p", "no:cacheprovider", selection]))
"""


def run(mutation: Mutation | None, selection: str) -> tuple[int, str]:
    """(pytest's exit status, its output) of the selection over a mutated copy of the package; None: as it is."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(
            ROOT / "src" / "reformer", Path(folder, "reformer"), ignore=shutil.ignore_patterns("__pycache__")
        )
        if mutation is not None:
            is_native = mutation.file.startswith("csrc/")
            if is_native:
                shutil.copytree(ROOT / "csrc", Path(folder, "csrc"))
            path = Path(folder) / ("" if is_native else "reformer") / mutation.file
            text = path.read_text()
            if text.count(mutation.old) != 1:
                return -1, f"the old text occurs {text.count(mutation.old)} times in {mutation.file}"
            path.write_text(text.replace(mutation.old, mutation.new))
            if is_native:
                # The package looks for its library beside itself first.
                build(path.parent, Path(folder, "reformer/ops/native/libreformer_native.so"), lanes=8)
        command = [sys.executable, "-c", _BOOTSTRAP, folder, selection]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        return done.returncode, done.stdout + done.stderr


def main(words: list[str]) -> int:
    """Run the mutations whose name holds one of the words, or all; return the number that went unnoticed."""
    chosen = [m for m in MUTATIONS if not words or any(word in m.name for word in words)]
    unnoticed = 0
    for mutation in chosen:
        start = time.monotonic()
        status, output = run(mutation, mutation.tests)
        # 1: tests failed. Anything else (2: collection error, 4: no such test) proves nothing.
        caught = status == 1
        unnoticed += not caught
        failed = next((line.split()[1] for line in output.splitlines() if line.startswith("FAILED")), "")
        detail = failed or (output.strip().splitlines() or [""])[-1]
        print(
            f"{'caught    ' if caught else 'NOT CAUGHT'} {time.monotonic() - start:5.1f} s  {mutation.name}  ->  {detail}",
            flush=True,
        )
    print(f"{len(chosen) - unnoticed} of {len(chosen)} mutations caught")
    return unnoticed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
