"""An expert on a trunk in the federation: the trunk travels with it, and goes with its dataset."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aggregator.impact import find_impact
from aggregator.rounds.collect_experts import collect_experts
from aggregator.rounds.describe import describe
from shared.echo.expert import ExpertCard, load_expert, save_checkpoint
from shared.echo.schema import to_document
from shared.errors import Code
from shared.files import sha256_hex
from shared.models.adapter import build_adapter
from shared.models.expert import FrozenExpert, pack_adapter
from shared.payload import Payload
from site_client.rounds.features import answer


def adapt(site, trunk: str, *, seed: int = 5) -> ExpertCard:
    """Replace a site's expert by an untrained adapter beside another expert that lies there."""
    torch.manual_seed(seed)
    card, weights = load_expert(site.store.require_expert(trunk))
    views = site.store.manifest("echo").label_map().views()
    model = build_adapter(FrozenExpert(card, weights).encoder, len(views), image_size=32)
    data, layers = pack_adapter(model, [torch.randn(8, 1, 32, 32)])
    sha256 = sha256_hex(data)
    made = replace(
        card, id=f"{site.name}-echo-{sha256[:8]}", site=site.name, views=views, layers=layers,
        dataset_hashes=(site.store.manifest("echo").content_hash(),), feature_width=96,
        weights_sha256=sha256, parent=card.id, trunk=card.id, trunk_sha256=card.weights_sha256,
        created="2026-02-01T00:00:00+00:00",
    )  # fmt: skip
    save_checkpoint(site.store.expert_folder(made.id), made, data)
    return made


def expert_of(federation, site: str) -> str:
    return next(row.id for row in federation.centre.state.experts() if row.site == site)


def test_a_site_that_lacks_the_trunk_gets_it_with_the_expert(after_one, tmp_path: Path) -> None:
    trunk = expert_of(after_one, "north")
    made = adapt(after_one.sites["south"], trunk)
    after_one.sites["south"].store.remove_expert(expert_of(after_one, "south"))
    newer = after_one.sites["north"].train(seed=9)  # north's newest expert is no longer the trunk
    east = after_one.join(tmp_path, "east")
    outcome = after_one.increment()
    assert not outcome["refused"]
    assert {made.id, newer.id, trunk} <= set(east.store.experts())
    banked = {(e.card.site, e.card.expert) for e in after_one.centre.bank.entries()}
    assert {(site, made.id) for site in ("north", "south", "east")} <= banked
    assert ("east", trunk) not in banked
    assert {one["site"] for one in outcome["at_sites"]} == {"north", "south", "east"}


def test_a_site_sends_its_own_trunk_before_what_stands_on_it(federation) -> None:
    north = federation.sites["north"]
    (own,) = north.store.experts()
    made = [adapt(north, own, seed=seed) for seed in range(3)][-1]
    current = federation.round()
    collect_experts(current, describe(current))
    rows = [row.id for row in federation.centre.state.experts() if row.site == "north"]
    assert rows[0] == own
    assert len(rows) == 2
    assert made.trunk == own


def test_the_centre_refuses_an_expert_whose_trunk_it_does_not_have(federation) -> None:
    south, north = federation.sites["south"], federation.sites["north"]
    (trunk,) = north.store.experts()
    save_checkpoint(
        south.store.expert_folder(trunk), *load_expert(north.store.expert_folder(trunk))
    )
    made = adapt(south, trunk)
    federation.away.add("north")
    current = federation.round()
    collect_experts(current, describe(current))
    assert [one["code"] for one in current.tally.refused] == [int(Code.EXPERT_UNKNOWN)]
    assert made.id not in {row.id for row in federation.centre.state.experts()}
    federation.away.clear()
    current = federation.round()
    collect_experts(current, describe(current))
    assert made.id in {row.id for row in federation.centre.state.experts()}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"parent": ""}, Code.WIRE_INVALID),
        ({"trunk_sha256": "0" * 64}, Code.EXPERT_UNKNOWN),
    ],
)
def test_an_expert_that_hides_what_it_stands_on_is_refused(
    federation, change: dict[str, str], code: Code
) -> None:
    north = federation.sites["north"]
    (own,) = north.store.experts()
    made = adapt(north, own)
    card, weights = load_expert(north.store.expert_folder(made.id))
    save_checkpoint(north.store.expert_folder(made.id), replace(card, **change), weights)
    current = federation.round()
    collect_experts(current, describe(current))
    assert [one["code"] for one in current.tally.refused] == [int(code)]
    assert made.id not in {row.id for row in federation.centre.state.experts()}


@pytest.mark.parametrize("keep_descendants", [False, True])
def test_an_expert_goes_with_the_dataset_of_its_trunk(after_one, keep_descendants: bool) -> None:
    made = adapt(after_one.sites["south"], expert_of(after_one, "north"))
    current = after_one.round()
    collect_experts(current, describe(current))
    impact = find_impact(after_one.centre, "north/echo", keep_descendants=keep_descendants)
    assert made.id in {one.expert for one in impact.experts}
    assert impact.kept == ()


def test_experts_on_one_trunk_are_extracted_in_one_pass(federation) -> None:
    north, south = federation.sites["north"], federation.sites["south"]
    (own,) = north.store.experts()
    cards = [
        load_expert(north.store.expert_folder(own))[0],
        adapt(north, own),
        adapt(north, own, seed=6),
    ]
    request = Payload(
        {
            "pairs": [["echo", card.id] for card in cards],
            "cards": [to_document(card) for card in cards],
            "max_bytes": 1,
        },
        {card.id: load_expert(north.store.expert_folder(card.id))[1] for card in cards},
    )
    reply = answer(south.config, request)
    assert list(reply.blobs) == [f"echo/{own}"]
    assert len(reply.body["receipt"]["left"]) == 2
    assert len(list((south.store.root / "exports").iterdir())) == 3
