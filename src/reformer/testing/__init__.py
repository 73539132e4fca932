"""What a test of the ops needs: an independent definition, inputs, an error budget, a measure of memory."""

from reformer.testing.error_budget import (
    assert_close_to_float64,
    assert_within_budget,
    outputs_and_gradients,
)
from reformer.testing.inputs import LAYOUTS, LSHInputs, exact_normal, lsh_inputs, segment_layout
from reformer.testing.memory import all_tensors, largest_tensor, saved_tensors
from reformer.testing.oracle import (
    local_attention_oracle,
    lsh_attention_oracle,
    places_seen,
    tokens_seen,
)

__all__ = [
    "LAYOUTS",
    "LSHInputs",
    "all_tensors",
    "assert_close_to_float64",
    "assert_within_budget",
    "exact_normal",
    "largest_tensor",
    "local_attention_oracle",
    "lsh_attention_oracle",
    "lsh_inputs",
    "outputs_and_gradients",
    "places_seen",
    "saved_tensors",
    "segment_layout",
    "tokens_seen",
]
