import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from shared.models.flops import count_flop


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_convolution_costs_two_for_each_multiplication(device: str) -> None:
    conv = nn.Conv2d(3, 5, 3, padding=1, device=device)
    x_NCHW = torch.zeros(2, 3, 4, 4, device=device)
    assert count_flop(lambda: conv(x_NCHW)) == 2 * (2 * 4 * 4) * 5 * 3 * 9


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_costs_its_two_products(device: str) -> None:
    heads, cells, width = 3, 64, 32
    x = torch.zeros(2, heads, cells, width, device=device)
    attended = count_flop(lambda: scaled_dot_product_attention(x, x, x))
    assert attended == 2 * (2 * 2 * heads * cells**2 * width)


def test_what_no_memory_could_hold_is_counted_by_its_shapes() -> None:
    layer = nn.Linear(1_000_000, 1_000_000, device="meta")
    x_ND = torch.zeros(1, 1_000_000, device="meta")
    assert count_flop(lambda: layer(x_ND)) == 2 * 10**12
