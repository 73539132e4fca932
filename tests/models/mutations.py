"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    # Reversible layers
    Mutation(
        name="reversible: recomputation outside autocast",
        file="layers/reversible.py",
        old="with torch.enable_grad(), _autocast(self.autocast), _restored(turn.branch, self.surroundings):",
        new="with torch.enable_grad(), _restored(turn.branch, self.surroundings):",
        tests="test_reversible.py::test_lsh_under_autocast_with_the_same_buckets",
    ),
    Mutation(
        name="reversible: autocast of now around the inner backward pass",
        file="layers/reversible.py",
        old="torch.autocast(self.autocast[0], enabled=False)",
        new="nullcontext()",
        tests="test_reversible.py::test_autocast_in_backward_only_changes_nothing_in_reversible_layers",
    ),
    Mutation(
        name="reversible: streams not rebuilt",
        file="layers/reversible.py",
        old="other, stream = stream - update, other",
        new="other, stream = stream, other",
        tests="test_reversible.py::test_equals_plain_autograd",
    ),
    Mutation(
        name="reversible: buckets computed again",
        file="layers/reversible.py",
        old="replace(turn.how, saved=self.saved, memory=memory)",
        new="replace(turn.how, saved=[], memory=memory)",
        tests="test_reversible.py::test_buckets_are_reused_in_the_backward",
    ),
    Mutation(
        name="reversible: gradient of the residual forgotten",
        file="layers/reversible.py",
        old="d_other = d_other + d_input",
        new="d_other = d_input",
        tests="test_reversible.py::test_equals_plain_autograd",
    ),
    Mutation(
        name="reversible: hooks fire on the way",
        file="layers/reversible.py",
        old="leaves = [p.detach().requires_grad_() for p in self.learned]",
        new="leaves = list(self.learned)",
        tests="test_reversible.py::test_hooks_see_each_gradient_once_and_whole",
    ),
    Mutation(
        name="reversible: slices are computed again with the parameters of now",
        file="layers/reversible.py",
        within="_Replay.gradients",
        old=(
            "with turn.held.in_place({id(p): leaf for p, leaf in zip(turn.learned, leaves)}):\n"
            "    with torch.enable_grad(), _autocast(self.autocast), _restored(turn.branch, self.surroundings):\n"
            "        update = turn.branch(x, how).to(x.dtype)\n"
            "    self._propagate(update, gradient)"
        ),
        new=(
            "with turn.held.in_place({id(p): leaf for p, leaf in zip(turn.learned, leaves)}):\n"
            "    with torch.enable_grad(), _autocast(self.autocast), _restored(turn.branch, self.surroundings):\n"
            "        update = turn.branch(x, how).to(x.dtype)\n"
            "self._propagate(update, gradient)"
        ),
        tests="test_company.py::test_functional_call_with_other_parameters",
    ),
    Mutation(
        name="plain autograd: slices are computed again with the parameters of now",
        file="layers/feed_forward.py",
        old="in_chunks(of_slice, x, self.chunk_len, again=HeldTensors(self).in_place)",
        new="in_chunks(of_slice, x, self.chunk_len)",
        tests="test_company.py::test_functional_call_with_other_parameters",
    ),
    Mutation(
        name="loss: slices are computed again with the parameters of now",
        file="models/language_model.py",
        old="again=HeldTensors(self.head).in_place",
        new="again=None",
        tests="test_company.py::test_functional_call_with_other_parameters",
    ),
    # Other people's tools
    Mutation(
        name="hooks: what a hook makes of the streams is not noticed",
        file="layers/reversible.py",
        old="if self.slots is None or not self._is_output(x1, x2):",
        new="if self.slots is None:",
        tests="test_company.py::test_forward_hooks_that_change_what_a_module_returns",
    ),
    Mutation(
        name="hooks: what a hook makes of the second stream is not noticed",
        file="layers/reversible.py",
        old="_is_same_memory(x1, y1) and _is_same_memory(x2, y2)",
        new="_is_same_memory(x1, y1)",
        tests="test_company.py::test_forward_hooks_that_change_one_stream",
    ),
    Mutation(
        name="hooks: what a hook makes of the first stream is not noticed",
        file="layers/reversible.py",
        old="_is_same_memory(x1, y1) and _is_same_memory(x2, y2)",
        new="_is_same_memory(x2, y2)",
        tests="test_company.py::test_forward_hooks_that_change_one_stream",
    ),
    Mutation(
        name="hooks: a stream changed in place is not noticed",
        file="layers/reversible.py",
        old="self.versions != (outputs[0]._version, outputs[1]._version)",
        new="False",
        tests="test_company.py::test_a_hook_that_changes_a_stream_in_place_is_refused",
    ),
    Mutation(
        name="hooks: what a hook brings into the graph does not learn",
        file="layers/reversible.py",
        within="_Replay.gradients",
        old="self._propagate(update, gradient)",
        new="torch.autograd.backward(update, gradient, inputs=wanted)",
        tests="test_company.py::test_what_a_hook_brings_into_the_graph_learns",
    ),
    Mutation(
        name="foreign modules: random numbers are not drawn again",
        file="layers/reversible.py",
        old="_set_random_states(surroundings.device, surroundings.random)",
        new="pass",
        tests="test_company.py::test_random_numbers_of_a_foreign_module_are_drawn_again",
    ),
    Mutation(
        name="foreign modules: random numbers drawn again are drawn a third time",
        file="layers/reversible.py",
        old="_set_random_states(surroundings.device, random)",
        new="pass",
        tests="test_company.py::test_random_numbers_of_a_foreign_module_are_drawn_again",
    ),
    Mutation(
        name="foreign modules: the mode is that of now",
        file="layers/reversible.py",
        old="_set_modes(modules, surroundings.modes)",
        new="pass",
        tests="test_company.py::test_the_mode_of_a_foreign_module_is_that_of_the_forward_pass",
    ),
    Mutation(
        name="foreign modules: a buffer that changes is not noticed",
        file="layers/reversible.py",
        old="buffer._version != version or",
        new="",
        tests="test_company.py::test_a_buffer_that_counts_calls_is_refused",
    ),
    Mutation(
        name="foreign modules: a buffer that is replaced is not noticed",
        file="layers/reversible.py",
        old="or branch.get_buffer(name) is not buffer",
        new="",
        tests="test_company.py::test_a_buffer_that_counts_calls_is_refused",
    ),
    Mutation(
        name="foreign modules: a parameter stands still",
        file="layers/reversible.py",
        old="if gradient_of_leaf is None:",
        new="if False:",
        tests="test_company.py::test_a_parameter_that_would_stand_still_is_named",
    ),
    Mutation(
        name="sharding: gathered parameters are learned",
        file="layers/reversible.py",
        old="HeldTensors(branch, but=gathered)",
        new="HeldTensors(branch)",
        tests="test_distributed.py",
    ),
    Mutation(
        name="sharding: nothing asks for the backward pass of gathered parameters",
        file="layers/reversible.py",
        old="x1 = x1.detach().requires_grad_()",
        new="pass",
        tests="test_distributed.py",
    ),
    # Language models
    Mutation(
        name="causal: inputs not shifted",
        file="models/language_model.py",
        old="return torch.cat([torch.full_like(tokens[:, :1], self.config.start_id), tokens[:, :-1]], dim=1)",
        new="return tokens",
        tests="test_language_model.py::test_shift_right",
    ),
    Mutation(
        name="positions: counted from the row's start",
        file="models/language_model.py",
        old="places_in_segments(segment_ids) if position_ids is None else position_ids",
        new="position_ids",
        tests="test_language_model.py::test_padding_on_either_side_is_inert",
    ),
    Mutation(
        name="positions: not handed to rotary layers",
        file="layers/attention.py",
        old="q = rotate(q, position_ids)",
        new="q = rotate(q)",
        tests="test_language_model.py::test_padding_on_either_side_is_inert",
    ),
    Mutation(
        name="models: the tied head reads the first half only",
        file="models/head.py",
        old="hidden = first + second",
        new="hidden = first",
        tests="test_tied.py",
    ),
    Mutation(
        name="models: after the meta device norms and biases stay empty",
        file="models/building.py",
        old="for module in reversed([*model.modules()][1:]):",
        new="for module in []:",
        tests="test_company.py::test_made_on_the_meta_device_then_filled",
    ),
    # Decoding
    Mutation(
        name="decoding: memory that grows is not copied",
        file="ops/decoding/cache.py",
        old="longer.narrow(axis, 0, x.shape[axis]).copy_(x)",
        new="pass",
        tests="test_decoding_state.py::test_memory_that_grows_changes_nothing",
    ),
    Mutation(
        name="decoding: rotations of another seed",
        file="models/decoding.py",
        old="stack.seeds(derive_seed(self.seed, STACK_SEED))",
        new="stack.seeds(self.seed)",
        tests="test_decoding.py",
    ),
    Mutation(
        name="decoding: rotations of the branch's seed, not of its attention's",
        file="layers/reversible.py",
        within="ResidualBranch.empty_cache",
        old="seed = self.inner_seed(seed)",
        new="pass",
        tests="test_decoding.py",
    ),
    Mutation(
        name="decoding: rotations of the feed-forward's seed",
        file="models/decoding.py",
        old="for layer, (seed, _, _) in zip(stack.layers, seeds)",
        new="for layer, (_, seed, _) in zip(stack.layers, seeds)",
        tests="test_decoding.py",
    ),
    Mutation(
        name="decoding: padding takes a position",
        file="models/decoding.py",
        old="before + is_real.cumsum(1) - 1",
        new="before + is_real.cumsum(1) * 0 + torch.arange(T)",
        tests="test_decoding.py",
    ),
    Mutation(
        name="decoding: an update reads the wrong stream",
        file="layers/reversible.py",
        within="ReversibleStack.forward",
        old="layer(x1, x2, (step, step, step))",
        new="layer(x2, x1, (step, step, step))",
        tests="test_decoding.py",
    ),
    Mutation(
        name="decoding: the first tokens are not in the cache",
        file="layers/attention.py",
        old="prefill_cache(cache, q, k, v, saved[0] if saved else None, counts, new.real_first)",
        new="pass",
        tests="test_decoding.py",
    ),
    Mutation(
        name="decoding: dropout",
        file="layers/reversible.py",
        within="ResidualBranch.step",
        old="return out",
        new="return nn.functional.dropout(out, self.dropout, self.training)",
        tests="test_encoder_decoder_decoding.py",
    ),
    Mutation(
        name="decoding: lists are not reordered",
        file="ops/decoding/cache.py",
        old="self.native.reorder(self, rows)",
        new="pass",
        tests="test_decoding_state.py::test_reordered_rows_go_on_as_the_rows_they_were",
    ),
    # Encoder-decoder
    Mutation(
        name="encoder-decoder: source padding is seen",
        file="layers/cross_attention.py",
        old="self._attend(x, keys, values, parallel.segment_ids, parallel.memory_segment_ids, drop, seed)",
        new="self._attend(x, keys, values, parallel.segment_ids, None, drop, seed)",
        tests="test_encoder_decoder.py",
    ),
    Mutation(
        name="encoder-decoder: packed pairs read one another's sources",
        file="layers/cross_attention.py",
        old="self._attend(x, keys, values, parallel.segment_ids, parallel.memory_segment_ids, drop, seed)",
        new="self._attend(x, keys, values, None, parallel.memory_segment_ids, drop, seed)",
        tests="test_encoder_decoder.py",
    ),
    Mutation(
        name="encoder-decoder: source padding is seen in decoding",
        file="layers/cross_attention.py",
        old="self._attend(x, *cache.keys_values, None, cache.segment_ids, 0.0, None)",
        new="self._attend(x, *cache.keys_values, None, None, 0.0, None)",
        tests="test_encoder_decoder_decoding.py",
    ),
    Mutation(
        name="encoder-decoder: the streams do not swap after a layer of three",
        file="layers/reversible.py",
        within="_Rebuilt.forward",
        old="return stream, other, _slot(stream), _slot(other)",
        new=(
            "return (other, stream, _slot(other), _slot(stream)) if has_memory else "
            "(stream, other, _slot(stream), _slot(other))"
        ),
        tests="test_encoder_decoder.py::test_the_decoder_layer_is_the_one_of_the_docstring",
    ),
    Mutation(
        name="encoder-decoder: rows of a beam keep another row's source",
        file="models/encoder_decoder.py",
        old="memory.reorder(rows.long())",
        new="memory.reorder(rows.long().sort().values)",
        tests="test_encoder_decoder_decoding.py",
    ),
    Mutation(
        name="encoder-decoder: the source is read in every step",
        file="layers/cross_attention.py",
        old="cache.keys_values, cache.memory = self._read(cache.memory), None",
        new="return self._attend(x, *self._read(cache.memory), None, cache.segment_ids, 0.0, None)",
        tests="test_encoder_decoder_decoding.py::test_the_source_is_read_once",
    ),
)
