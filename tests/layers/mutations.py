"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    # Streams
    Mutation(
        name="one stream: functions all read the input",
        file="layers/reversible.py",
        within="ReversibleLayer.forward",
        old="for branch, how in zip(self.branches(), hows):\n    update = branch(x2, how)",
        new="read = x2\nfor branch, how in zip(self.branches(), hows):\n    update = branch(read, how)",
        tests="test_reversible.py::test_one_stream_is_an_ordinary_transformer",
    ),
    Mutation(
        name="one stream: an update is added to the stream before",
        file="layers/reversible.py",
        old="((y := x2 + update), y)",
        new="(x2, x1 + update)",
        tests="test_reversible.py::test_one_stream_is_an_ordinary_transformer",
    ),
    Mutation(
        name="streams: an update is added to the stream that was read",
        file="layers/reversible.py",
        within="_Rebuilt.forward",
        old="stream, other = other, stream + update.to(stream.dtype)",
        new="stream, other = stream, other + update.to(stream.dtype)",
        tests="test_rebuilding.py::test_equals_the_formula",
    ),
    Mutation(
        name="streams: a decoder reads its memory last",
        file="layers/reversible.py",
        old="(self.attention, self.cross_attention, self.feed_forward) if b is not None",
        new="(self.attention, self.feed_forward, self.cross_attention) if b is not None",
        tests="test_rebuilding.py::test_three_functions_a_layer_that_read_one_memory",
    ),
    Mutation(
        name="dropout: all layers draw the same masks",
        file="layers/reversible.py",
        old="derive_seed(seed, index, 0)",
        new="derive_seed(seed, 0, 0)",
        tests="test_reversible.py::test_layers_draw_different_masks_and_rotations",
    ),
    # Activations rebuilt
    Mutation(
        name="rebuilding: the layer below gets the streams swapped",
        file="layers/reversible.py",
        within="_Rebuilt.backward",
        old="d_other, d_stream, other, stream, *shared",
        new="d_other, d_stream, stream, other, *shared",
        tests="test_rebuilding.py::test_equals_the_formula",
    ),
    Mutation(
        name="rebuilding: the last layer gets the streams swapped",
        file="layers/reversible.py",
        within="_Kept.backward",
        old="return d1, d2, y1, y2, None, None",
        new="return d1, d2, y2, y1, None, None",
        tests="test_rebuilding.py::test_equals_the_formula",
    ),
    Mutation(
        name="rebuilding: every layer keeps its outputs",
        file="layers/reversible.py",
        old="if self.slots is None or not self._is_output(x1, x2):",
        new="if True:",
        tests="test_rebuilding.py::test_memory_does_not_grow_with_depth",
    ),
    Mutation(
        name="rebuilding: gradient of the second stream dropped",
        file="layers/reversible.py",
        within="_Rebuilt.backward",
        old="d_stream = torch.zeros_like(y2) if d2 is None else d2",
        new="d_stream = torch.zeros_like(y2)",
        tests="test_rebuilding.py::test_equals_the_formula",
    ),
    Mutation(
        name="rebuilding: gradients of one function go to the other",
        file="layers/reversible.py",
        old="gradients = [*d_learned, *gradients]",
        new="gradients = [*gradients, *d_learned]",
        tests="test_rebuilding.py::test_every_choice_of_frozen_parameters",
    ),
    Mutation(
        name="rebuilding: what was saved is saved anew",
        file="layers/reversible.py",
        old="replace(turn.how, saved=self.saved, memory=memory)",
        new="replace(turn.how, saved=[], memory=memory)",
        tests="test_rebuilding.py::test_branches_run_once_forward_and_once_backward_with_what_they_saved",
    ),
    Mutation(
        name="rebuilding: the memory's gradient is that of the function undone last",
        file="layers/reversible.py",
        old="if d_read is not None:\n    d_memory = d_read if d_memory is None else d_memory + d_read",
        new="d_memory = d_read",
        tests="test_rebuilding.py::test_three_functions_a_layer_that_read_one_memory",
    ),
    # What a function finds when it is computed again
    Mutation(
        name="again: frozen parameters and buffers are those of now",
        file="layers/replay.py",
        old="instead.get(id(held), held)",
        new="instead.get(id(held), names[name])",
        tests="test_rebuilding.py::test_parameters_given_to_functional_call_count_also_after_it",
    ),
    Mutation(
        name="again: parameters are not put in place",
        file="layers/replay.py",
        old="if names.get(name) is not tensor:",
        new="if False:",
        tests="test_rebuilding.py::test_equals_the_formula",
    ),
    Mutation(
        name="again: what was put in place stays there",
        file="layers/replay.py",
        old="for names, name, tensor in now:\n    names[name] = tensor",
        new="pass",
        tests="test_rebuilding.py::test_every_choice_of_frozen_parameters",
    ),
    Mutation(
        name="again: outside autocast",
        file="layers/reversible.py",
        old="with torch.enable_grad(), autocast_as(self.autocast), restored(turn.branch, self.surroundings):",
        new="with torch.enable_grad(), restored(turn.branch, self.surroundings):",
        tests="test_rebuilding.py::test_backward_outside_autocast_of_a_forward_inside",
    ),
    Mutation(
        name="again: in the mode of now",
        file="layers/replay.py",
        old="_set_modes(modules, surroundings.modes)",
        new="pass",
        tests="test_reversible.py::test_mode_of_the_forward_pass_is_that_of_the_backward",
    ),
    Mutation(
        name="again: the mode of then stays",
        file="layers/replay.py",
        old="_set_modes(modules, modes)",
        new="pass",
        tests="test_reversible.py::test_mode_of_the_forward_pass_is_that_of_the_backward",
    ),
    # Attention
    Mutation(
        name="attention: dropout does not follow the seed",
        file="layers/attention.py",
        within="SelfAttention.run",
        old="derive_seed(parallel.seed, _ATTENTION_DROPOUT)",
        new="derive_seed(torch.zeros_like(parallel.seed), _ATTENTION_DROPOUT)",
        tests="test_attention.py::test_evaluation_repeats_and_training_follows_the_global_seed",
    ),
    Mutation(
        name="attention: dropout draws from the seed of the rotations",
        file="layers/attention.py",
        old="_ROTATIONS, _ATTENTION_DROPOUT = 0, 1",
        new="_ROTATIONS, _ATTENTION_DROPOUT = 0, 0",
        tests="test_attention.py::test_dropout_is_that_of_the_op_under_a_seed_of_its_own",
    ),
    Mutation(
        name="attention: dropout in evaluation",
        file="layers/attention.py",
        old="if self.training and self.dropout > 0.0:",
        new="if self.dropout > 0.0:",
        tests="test_attention.py::test_dropout_is_that_of_the_op_under_a_seed_of_its_own",
    ),
    Mutation(
        name="attention: rotations of another seed",
        file="layers/attention.py",
        within="LSHSelfAttention.places",
        old="derive_seed(parallel.seed, _ROTATIONS)",
        new="parallel.seed",
        tests="test_attention.py::test_is_its_op_between_projections",
    ),
    Mutation(
        name="attention: separate keys are not rotated",
        file="layers/attention.py",
        old="k = None if k is None else rotate(k, position_ids)",
        new="pass",
        tests="test_attention.py::test_is_its_op_between_projections",
    ),
    # Feed-forward
    Mutation(
        name="feed-forward: dropout of a slice starts at the first position",
        file="layers/feed_forward.py",
        old="first_position=first_position",
        new="first_position=0",
        tests="test_feed_forward_values.py::test_dropout_does_not_depend_on_the_slices",
    ),
    Mutation(
        name="feed-forward: the hidden layer is kept",
        file="ops/chunking.py",
        old="recompute = chunk_len is not None and torch.is_grad_enabled()",
        new="recompute = False",
        tests="test_feed_forward_values.py::test_hidden_units_of_slices_are_not_kept",
    ),
    Mutation(
        name="feed-forward: gate and value change places",
        file="ops/chunking.py",
        old="gate, up = hidden.chunk(2, dim=-1)",
        new="up, gate = hidden.chunk(2, dim=-1)",
        tests="test_feed_forward_values.py::test_equals_the_plain_formula",
    ),
    Mutation(
        name="feed-forward: earlier names of weights are not renamed",
        file="layers/feed_forward.py",
        old="if prefix + earlier in state:",
        new="if False:",
        tests="test_feed_forward.py::test_weights_under_their_earlier_names_are_loaded",
    ),
    Mutation(
        name="feed-forward: earlier names are looked for in the outermost module",
        file="layers/feed_forward.py",
        old="if prefix + earlier in state:\n    state[prefix + name] = state.pop(prefix + earlier)",
        new="if earlier in state:\n    state[name] = state.pop(earlier)",
        tests="test_feed_forward.py::test_weights_under_their_earlier_names_are_loaded",
    ),
    # Positions
    Mutation(
        name="positions: column-major axes",
        file="layers/positions.py",
        old=(
            "indices, stride = [], self.max_len\nfor size in self.shape:\n    stride //= size\n"
            "    indices.append(position_ids // stride % size)"
        ),
        new=(
            "indices, stride = [], 1\nfor size in self.shape:\n"
            "    indices.append(position_ids // stride % size)\n    stride *= size"
        ),
        tests="test_positions.py::test_coordinates_by_hand",
    ),
    Mutation(
        name="positions: rotation the same everywhere",
        file="layers/positions.py",
        old="first * cos - second * sin, second * cos + first * sin",
        new="first * cos - second * sin, second * cos - first * sin",
        tests="test_positions.py",
    ),
)
