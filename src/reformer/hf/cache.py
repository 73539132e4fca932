"""What ``generate`` carries from token to token: ``past_key_values`` around a ``DecodingState``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reformer.hf.inputs import segments
from reformer.models import ReformerTrunk


class ReformerCache:
    """A generation so far, as ``past_key_values``; it is updated in place by the model that it is given to.

    ``max_len``: the most tokens it may hold, padding included (None: the model's longest input). The state is made when
    the first tokens come, which say how many rows there are. It cannot forget tokens, so assisted decoding cannot use it.
    """

    is_compileable = False
    is_croppable = False

    def __init__(self, max_len: int | None = None) -> None:
        self.max_len = max_len
        self.state: Any = None

    def extend(
        self,
        trunk: ReformerTrunk,
        tokens: Tensor | None,
        inputs_embeds: Tensor | None,
        attention_mask: Tensor | None,
        *,
        position_ids: Tensor | None,
        seed: int | Tensor,
    ) -> Tensor:
        """Hidden states [B, T, 2·d_model] of the next tokens, which the cache holds afterwards.

        ``attention_mask`` [B, tokens so far + T]. ``seed`` of the rotations: the first call's holds for all.
        Raises ValueError for shapes that do not fit, beyond ``max_len``, and for ``position_ids``.
        """
        if position_ids is not None:
            raise ValueError("with a cache a token's position is its place in its row: leave position_ids out")
        given = inputs_embeds if tokens is None else tokens
        assert given is not None
        batch_size, new = given.shape[:2]
        if self.state is None:
            self.state = trunk.decoding_state(batch_size, max_len=self.max_len, seed=seed)
        segment_ids = segments(attention_mask, batch_size, self.get_seq_length() + new)
        if segment_ids is not None:
            segment_ids = segment_ids[:, -new:]
        return trunk.decode_hidden(tokens, self.state, segment_ids, inputs_embeds=inputs_embeds)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens so far, padding included; the same in every layer."""
        return 0 if self.state is None else self.state.length

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        """The most tokens it may hold; -1 while that is the model's affair."""
        return -1 if self.max_len is None else self.max_len

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row b becomes what row ``beam_idx[b]`` was."""
        if self.state is not None:
            self.state.reorder(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row ``repeats`` times, side by side."""
        if self.state is not None:
            rows = torch.arange(self.state.batch_size)
            self.state.reorder(rows.repeat_interleave(repeats))
