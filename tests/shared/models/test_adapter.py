from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from shared.echo.expert import ExpertCard, expert_document, read_expert_card
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.models.adapter import MAX_FLOP_SHARE, AdaptedTrunk, build_adapter, flop_share
from shared.models.backbone import build_expert, feature_width
from shared.models.encoder import Encoder
from shared.models.expert import FrozenExpert, look_together, pack_adapter, pack_expert
from shared.models.flops import count_flop

SIZE = 64


def stripes(num: int, *, across: bool, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    wave = torch.sin(torch.arange(SIZE) / 2.0)
    image = wave[None, :].expand(SIZE, SIZE) if across else wave[:, None].expand(SIZE, SIZE)
    return image + 0.3 * torch.randn(num, 1, SIZE, SIZE, generator=generator)


def freeze(weights: bytes, layers: tuple[str, ...], **changes: Any) -> ExpertCard:
    known: dict[str, Any] = {
        "id": "x", "site": "s", "datasets": ("d",), "dataset_hashes": ("h",), "origin": "phantom",
        "backbone": "test_resnet", "image_size": SIZE, "views": ("A2C", "A4C"),
        "feature_width": 96, "layers": layers, "weights_sha256": sha256_hex(weights), "parent": "",
        "seed": 0, "settings_hash": "", "settings": {}, "metrics": {}, "created": "",
    }  # fmt: skip
    return ExpertCard(**known | changes)


def trunk(backbone: str = "test_resnet") -> FrozenExpert:
    torch.manual_seed(0)
    model = build_expert(backbone, 2, image_size=SIZE)
    weights, layers = pack_expert(model, [stripes(16, across=True)])
    width = feature_width(model)
    card = freeze(weights, layers, id="trunk", backbone=backbone, feature_width=width)
    return FrozenExpert(card, weights)


def adapted(on: FrozenExpert, frames: Tensor, *, seed: int = 0) -> tuple[ExpertCard, bytes]:
    """An expert that learnt for a few steps whether a pixel is brighter than another."""
    torch.manual_seed(seed)
    model = build_adapter(on.encoder, 2, image_size=SIZE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    label = (frames[:, 0, 32, 32] > frames[:, 0, 30, 30]).long()
    for _ in range(3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(frames), label).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    weights, layers = pack_adapter(model, frames.split(8))
    made = freeze(
        weights, layers, id=f"adapted-{seed}", parent=on.card.id, trunk=on.card.id,
        trunk_sha256=on.card.weights_sha256,
    )  # fmt: skip
    return made, weights


def same(one: Any, other: Any) -> bool:
    names = ("features_ND", "logits_NC", "discrepancy_NL")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize(
    ("backbone", "size"),
    [("test_resnet", 80), ("test_efficientnet", 80), ("test_convnext", 80), ("resnet18", 64)],
)
@pytest.mark.parametrize("num_views", [2, 30])
def test_adapter_and_head_cost_six_percent_of_the_trunk_at_most(
    backbone: str, size: int, num_views: int
) -> None:
    model = build_expert(backbone, 4, image_size=size)
    encoder = Encoder(model)
    made = build_adapter(encoder, num_views, image_size=size)
    image = torch.zeros(1, 1, size, size)
    alone = count_flop(lambda: cast(Any, model)(image))
    both = count_flop(lambda: made.eval()(image))
    assert both - alone <= MAX_FLOP_SHARE * alone
    assert (both - alone) / alone == pytest.approx(flop_share(made, encoder, image_size=size))


def test_learning_an_adapter_leaves_the_trunk_as_it_was_bit_for_bit() -> None:
    on, frames = trunk(), stripes(16, across=True)
    before = {name: value.clone() for name, value in on._model.state_dict().items()}
    seen = on.look(frames)
    card, weights = adapted(on, frames)
    after = on._model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert same(seen, on.look(frames))
    assert len(weights) < sum(value.nbytes for value in before.values())
    assert card.trunk_sha256 == on.card.weights_sha256


def test_what_is_learnt_is_adapter_and_head_only() -> None:
    on = trunk()
    model = build_adapter(on.encoder, 2, image_size=SIZE)
    names = {name.split(".")[0] for name in model.state_dict()}
    assert names == {"norm", "reduce", "reduce_norm", "mix", "mix_norm", "read", "read_norm", "fc"}
    assert not any(parameter.requires_grad for parameter in on._model.parameters())
    model.train()
    assert not on._model.training


def test_experts_on_a_trunk_see_together_what_each_sees_alone_in_one_pass_of_the_trunk() -> None:
    on, frames = trunk(), stripes(16, across=True)
    alone = [FrozenExpert(*adapted(on, frames, seed=seed), trunk=on) for seed in (0, 1)]
    expected = [expert.look(frames) for expert in (on, *alone)]
    passes: list[int] = []
    first = next(layer for layer in on._model.modules() if isinstance(layer, nn.Conv2d))
    first.register_forward_pre_hook(lambda *_: passes.append(1))
    together = look_together([on, *alone], frames)
    assert len(passes) == 1
    assert all(same(one, other) for one, other in zip(together, expected, strict=True))
    assert not same(together[1], together[2])


def test_card_of_an_expert_on_a_trunk_reads_back_and_an_older_card_has_none() -> None:
    card, _ = adapted(trunk(), stripes(16, across=True))
    document = expert_document(card)
    assert read_expert_card(document) == card
    older = {k: v for k, v in document.items() if k not in ("trunk", "trunk_sha256")}
    assert read_expert_card(older | {"version": 1}).trunk == ""


def test_weights_file_brings_the_same_expert_back() -> None:
    on, frames = trunk(), stripes(16, across=True)
    card, weights = adapted(on, frames)
    one, other = FrozenExpert(card, weights, on), FrozenExpert(card, weights, trunk())
    assert same(one.look(frames), other.look(frames))
    assert one.look(frames).features_ND.shape == (16, card.feature_width)
    assert one.look(frames).discrepancy_NL.shape == (16, len(card.layers))


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
def test_the_adapters_own_frames_are_at_home_though_the_trunks_are_others(backbone: str) -> None:
    on = trunk(backbone)
    own = 3 * stripes(16, across=False) + 2
    expert = FrozenExpert(*adapted(on, own), trunk=on)
    at_home = expert.look(3 * stripes(16, across=False, seed=1) + 2).discrepancy_NL.mean(1)
    abroad = expert.look(stripes(16, across=True, seed=2)).discrepancy_NL.mean(1)
    assert (at_home <= 0).all()
    assert at_home.min() > abroad.max()


def test_expert_without_its_trunk_is_refused() -> None:
    on = trunk()
    card, weights = adapted(on, stripes(16, across=True))
    for stand_in in (None, FrozenExpert(card, weights, on)):
        with pytest.raises(EchoFedError, match="trunk") as refusal:
            FrozenExpert(card, weights, stand_in)
        assert refusal.value.code is Code.EXPERT_UNKNOWN


def test_expert_on_other_weights_of_its_trunk_is_refused() -> None:
    on = trunk()
    card, weights = adapted(on, stripes(16, across=True))
    changed = freeze(weights, card.layers, trunk="trunk", trunk_sha256="0" * 64)
    with pytest.raises(EchoFedError) as refusal:
        FrozenExpert(changed, weights, on)
    assert refusal.value.code is Code.CHECKPOINT_CORRUPT


def test_weights_of_a_full_backbone_are_no_adapter() -> None:
    on = trunk()
    weights, layers = pack_expert(build_expert("test_resnet", 2), [stripes(4, across=True)])
    card = freeze(weights, layers, trunk="trunk", trunk_sha256=on.card.weights_sha256)
    with pytest.raises(EchoFedError) as refusal:
        FrozenExpert(card, weights, on)
    assert refusal.value.code is Code.CHECKPOINT_CORRUPT


def test_trunk_without_maps_or_stages_is_refused() -> None:
    silent = build_expert("test_resnet", 2)
    del silent.feature_info
    for model in (build_expert("test_vit", 2, image_size=SIZE), silent):
        with pytest.raises(EchoFedError) as refusal:
            build_adapter(Encoder(model), 2, image_size=SIZE)
        assert refusal.value.code is Code.CONFIG_INVALID


def test_trunk_too_small_for_any_adapter_is_refused() -> None:
    with pytest.raises(EchoFedError, match="small") as refusal:
        build_adapter(Encoder(build_expert("test_resnet", 2)), 2, image_size=16)
    assert refusal.value.code is Code.CONFIG_INVALID


def test_width_is_read_off_the_weights() -> None:
    on = trunk()
    model = AdaptedTrunk(on.encoder, 2, width=8)
    weights, layers = pack_adapter(model, [stripes(4, across=True)])
    card = freeze(weights, layers, trunk="trunk", trunk_sha256=on.card.weights_sha256)
    assert FrozenExpert(card, weights, on).look(stripes(4, across=True)).logits_NC.shape == (4, 2)
