"""What every autoencoder of the table keeps to."""

import pytest
import torch
from torch import Tensor, nn

from shared.echo.synthesizer import Option
from shared.errors import Code, EchoFedError
from shared.models import AUTOENCODERS
from shared.models.autoencoder import as_autoencoder, draw_autoencoder, sector_cells

TINY: dict[str, dict[str, Option]] = {
    "pixels": {},
    "kl": {"widths": (8, 16), "blocks": 1},
    "gamma": {"widths": (8, 16), "blocks": 1},
    "haar": {"levels": 2},
}
LEARNT = [name for name in TINY if name not in {"pixels", "haar"}]


def build(name: str, seed: int = 0) -> nn.Module:
    return draw_autoencoder(name, TINY[name], seed=seed).double()


def pictures(num: int, side: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(num, 1, side, side, generator=generator, dtype=torch.float64)
    sectors = torch.zeros_like(images)
    for place, sector in enumerate(sectors):
        sector[:, 3 : side - 3, 5 + place : side - 6] = 1
    return images, sectors


def changed_outside(images: Tensor, sectors: Tensor) -> Tensor:
    return torch.where(sectors > 0, images, 1 - images)


def test_every_line_of_the_table_is_tried_here() -> None:
    assert set(TINY) == set(AUTOENCODERS.names())


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("side", [32, 48])
def test_latent_and_image_have_the_promised_shapes(name: str, side: int) -> None:
    network, (images, sectors) = as_autoencoder(build(name)), pictures(2, side)
    latent = network.encode(images, sectors)
    small = side // network.factor
    assert latent.shape == (2, network.latent_channels, small, small)
    assert network.decode(latent, sectors).shape == images.shape


@pytest.mark.parametrize("name", TINY)
def test_image_lies_in_0_to_1_and_is_black_outside_the_sector(name: str) -> None:
    network, (images, sectors) = as_autoencoder(build(name)), pictures(3)
    latent = network.encode(images, sectors)
    found = network.decode(torch.randn_like(latent) * 5, sectors)
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found[sectors == 0] == 0).all()


@pytest.mark.parametrize("name", TINY)
def test_latent_says_nothing_of_what_stands_outside_the_sector(name: str) -> None:
    network, (images, sectors) = as_autoencoder(build(name)), pictures(2)
    latent = network.encode(images, sectors)
    assert torch.equal(latent, network.encode(changed_outside(images, sectors), sectors))
    cells = sector_cells(sectors, network.factor).expand_as(latent)
    assert (latent[cells == 0] == 0).all()
    assert latent[cells == 1].std() > 0


@pytest.mark.parametrize("name", TINY)
def test_a_latent_outside_the_sector_changes_no_image(name: str) -> None:
    network, (images, sectors) = as_autoencoder(build(name)), pictures(2)
    latent = network.encode(images, sectors)
    other = torch.where(sector_cells(sectors, network.factor) > 0, latent, latent + 1)
    assert torch.equal(network.decode(latent, sectors), network.decode(other, sectors))


@pytest.mark.parametrize("name", LEARNT)
def test_loss_is_the_same_whatever_stands_outside_the_sector(name: str) -> None:
    network, (images, sectors) = as_autoencoder(build(name)), pictures(2)
    one, other = (
        network.loss_terms(x, sectors, torch.Generator().manual_seed(3))
        for x in (images, changed_outside(images, sectors))
    )
    assert one == other


@pytest.mark.parametrize("name", TINY)
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    network, (images, sectors) = as_autoencoder(build(name)), pictures(3)
    latent = network.encode(images, sectors)
    torch.testing.assert_close(
        latent[1:2], network.encode(images[1:2], sectors[1:2]), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        network.decode(latent, sectors)[2:],
        network.decode(latent[2:], sectors[2:]),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", TINY)
def test_encoding_draws_nothing_and_losses_draw_from_the_generator_only(name: str) -> None:
    network, (images, sectors) = as_autoencoder(build(name)), pictures(2)
    before = torch.get_rng_state()
    assert torch.equal(network.encode(images, sectors), network.encode(images, sectors))
    one, same, other = (
        network.loss_terms(images, sectors, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert one == same
    assert name not in LEARNT or one["image"] != other["image"]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", LEARNT)
def test_different_images_have_different_latents(name: str) -> None:
    """V6: an encoder that was replaced by draws from the prior would fail."""
    network, (images, sectors) = as_autoencoder(build(name)), pictures(2)
    sectors = sectors[:1].expand_as(images)
    one, other = network.encode(images, sectors)
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("name", LEARNT)
def test_every_weight_learns(name: str) -> None:
    network, (images, sectors) = build(name), pictures(2)
    terms = as_autoencoder(network).loss_terms(images, sectors, torch.Generator().manual_seed(0))
    torch.stack(list(terms.values())).sum().backward()
    silent = [
        parameter_name
        for parameter_name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    assert not silent


@pytest.mark.parametrize("name", LEARNT)
def test_an_empty_sector_gives_a_finite_loss(name: str) -> None:
    images, sectors = pictures(2)
    network = as_autoencoder(build(name))
    terms = network.loss_terms(images, sectors * 0, torch.Generator().manual_seed(0))
    assert all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize("name", LEARNT)
def test_seed_says_what_the_weights_are(name: str) -> None:
    one, same, other = (build(name, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_a_cell_counts_if_any_of_its_pixels_does() -> None:
    sector = torch.zeros(1, 1, 8, 8)
    sector[..., 3, 4] = 1
    cells = sector_cells(sector, 4)
    assert cells.flatten().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("name", LEARNT)
def test_sides_that_cannot_be_halved_are_refused(name: str) -> None:
    with pytest.raises(EchoFedError) as caught:
        as_autoencoder(build(name)).encode(*pictures(1, 31))
    assert caught.value.code is Code.SHAPE_MISMATCH


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kl", {"width": 8}),
        ("kl", {"widths": (12,)}),
        ("kl", {"widths": ()}),
        ("kl", {"widths": (8, 8), "decoder_widths": (8, 8, 8, 8)}),
        ("kl", {"widths": (8, 8), "patch": 3, "decoder_widths": (8, 8, 8)}),
        ("gamma", {"widths": (8,), "blocks": 0}),
        ("pixels", {"widths": (8,)}),
    ],
)
def test_impossible_options_are_refused(name: str, options: dict[str, Option]) -> None:
    with pytest.raises(EchoFedError) as caught:
        draw_autoencoder(name, options, seed=0)
    assert caught.value.code is Code.CONFIG_INVALID
