"""torch's own attention as operations to be measured."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from reformer.bench.case import Case, Inputs, Operation


def sdpa(case: Case, inputs: Inputs, device: str) -> Operation:
    """Causal, whichever kernel torch picks."""
    return Operation(
        call=lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        leaves=(inputs.heads(0), inputs.heads(1), inputs.heads(2)),
    )


def sdpa_flash(case: Case, inputs: Inputs, device: str) -> Operation:
    """Causal, FlashAttention or an error."""
    return _with_backend(sdpa(case, inputs, device), SDPBackend.FLASH_ATTENTION)


def sdpa_cudnn(case: Case, inputs: Inputs, device: str) -> Operation:
    """Causal, cuDNN or an error."""
    return _with_backend(sdpa(case, inputs, device), SDPBackend.CUDNN_ATTENTION)


def flex_local(case: Case, inputs: Inputs, device: str) -> Operation:
    """Causal attention to the own chunk and the one before, by FlexAttention."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    chunk_len = case.chunk_len
    assert chunk_len is not None

    def sees(b, h, i, j):
        return (j <= i) & (i // chunk_len - j // chunk_len <= 1)

    mask = create_block_mask(sees, None, None, case.seq_len, case.seq_len, device=device)
    compiled = torch.compile(flex_attention)
    return Operation(
        call=lambda q, k, v: compiled(q, k, v, block_mask=mask),
        leaves=(inputs.heads(0), inputs.heads(1), inputs.heads(2)),
    )


def _with_backend(operation: Operation, backend: SDPBackend) -> Operation:
    def call(*tensors):
        with sdpa_kernel(backend):
            return operation.call(*tensors)

    return Operation(call=call, leaves=operation.leaves)
