"""Floating-point operations of a call: convolutions, matrix products, attention; two a MAC."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flop(call: Callable[[], object]) -> int:
    """Operations of a call; on the device ``meta`` nothing but shapes is computed for it."""
    # torch's counter knows attention on other devices only and takes that on a processor for free
    on_processor = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    counter = FlopCounterMode(display=False, custom_mapping=on_processor)
    with torch.no_grad(), counter:
        call()
    return int(counter.get_total_flops())


def _attention(
    query_shape: tuple[int, ...],
    key_shape: tuple[int, ...],
    value_shape: tuple[int, ...],
    *_: object,
    **__: object,
) -> int:
    num, heads, cells, width = query_shape
    return 2 * num * heads * cells * key_shape[2] * (width + value_shape[3])
