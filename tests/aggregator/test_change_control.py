"""Promotions under a change plan, on a centre whose bank holds exports of a Gaussian world."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from aggregator.assessment import Finding
from aggregator.centre import Centre, open_centre
from aggregator.change_control import assess
from aggregator.change_plan import PLAN_FILE
from aggregator.fuse import choose, fuse
from aggregator.promotion import promote, register, registry_of, rollback
from aggregator.schema import Announcement, Evaluation, Fusion
from aggregator.serving import PROMOTED, REFUSED, serving_fusion
from aggregator.state import iso
from shared.echo.expert import load_fusion, save_checkpoint
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.metrics import score_labels
from shared.models.fusion_weights import build_fusion, fusion_to_bytes
from shared.testing.exports import GaussianWorld
from site_client.condense import condense

NOW = datetime(2026, 11, 22, tzinfo=UTC)
VIEWS = {"north": ["A4C", "A2C", "PLAX"], "south": ["A4C", "PLAX", "A3C"]}
WORLD = GaussianWorld(VIEWS, num_clips=80, num_frames=1, num_passes=0, feature_width=16)


def announce(centre: Centre, site: str) -> None:
    labels: dict[str, Any] = {view: [view] for view in VIEWS[site]}
    content = WORLD.content_hash(site)
    row = Announcement(site, f"{site}-echo", content, "phantom", labels, {}, ["rows"], 1, iso(NOW))
    centre.state.announce(site, [row], now=NOW)


def spoil(centre: Centre, row: Fusion, view: str) -> str:
    """Register a fusion that never says this view, though it knows it."""
    card, weights = load_fusion(centre.fusion_folder(row.id))
    model = build_fusion(card, weights)
    model.named_weights()[f"head/bias/{view}"].fill_(-1e3)
    spoilt = fusion_to_bytes(model)
    sha256 = sha256_hex(spoilt)
    bad = replace(card, id=f"fusion-{sha256[:12]}", weights_sha256=sha256)
    save_checkpoint(centre.fusion_folder(bad.id), bad, spoilt)
    centre.state.add_fusion(Fusion(bad.id, f"without {view}", iso(NOW), row.datasets, row.report))
    register(centre, bad.id)
    return bad.id


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A centre that serves a good fusion and holds one that lost a view, made once."""
    folder = tmp_path_factory.mktemp("prepared")
    settings = {"variants": ["ridge"], "threads": 1}
    (folder / "aggregator.yaml").write_text(yaml.safe_dump({"fusion": settings}))
    opened = open_centre(folder / "aggregator.yaml")
    for card in WORLD.experts().values():
        opened.state.add_expert(card, now=NOW)
    for site in VIEWS:
        announce(opened, site)
        for expert in VIEWS:
            opened.bank.add(WORLD.export(site, expert).to_bytes(), WORLD.experts(), now=NOW)
    row = fuse(opened, choose(opened, ()), clock=lambda: NOW)
    register(opened, row.id)
    promote(opened, assess(opened, row.id), actor="ada", reason="first")
    spoil(opened, row, "PLAX")
    opened.state.close()
    return folder


@pytest.fixture
def centre(tmp_path: Path, prepared: Path) -> Iterator[Centre]:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    opened = open_centre(tmp_path / "aggregator.yaml")
    yield opened
    opened.state.close()


def fusions(centre: Centre) -> tuple[str, str]:
    """The good one, which serves, and the spoilt one."""
    good = serving_fusion(centre.ledger)
    assert good is not None
    return good, next(row.id for row in centre.state.fusions() if row.id != good)


def plan(centre: Centre, **said: object) -> None:
    document = {"approvers": ["ada", "bo"], **said}
    (centre.folder / PLAN_FILE).write_text(yaml.safe_dump(document))


def verdicts(findings: tuple[Finding, ...], source: str = "bank") -> dict[tuple[str, str], str]:
    return {(one.dataset, one.figure): one.verdict for one in findings if one.source == source}


def refusal(centre: Centre, fusion: str, *, actor: str = "ada") -> EchoFedError:
    with pytest.raises(EchoFedError) as caught:
        promote(centre, assess(centre, fusion), actor=actor, reason="try")
    return caught.value


def test_a_fusion_in_its_own_place_passes_with_no_margin_at_all(centre: Centre) -> None:
    limit = {"max_loss": 0.0, "floor": 1.0}
    plan(centre, everywhere={"metrics": {"macro_f1": limit}, "recall": limit}, uncertain="refuse")
    good, _ = fusions(centre)
    made = assess(centre, good)
    assert made.refused == ()
    assert {one.verdict for one in made.findings} == {"holds", "not asked"}
    assert all(one.low in (None, 0.0) for one in made.findings)


def test_the_figures_are_those_that_the_report_of_the_fusion_holds(centre: Centre) -> None:
    good, _ = fusions(centre)
    stored = centre.state.fusion(good).report["datasets"]
    for one in assess(centre, good).findings:
        if one.figure == "macro_f1":
            assert one.after == pytest.approx(stored[one.dataset]["clips"]["macro_f1"])
            assert one.num_clips == stored[one.dataset]["clips"]["num"]


def test_a_candidate_that_lost_a_view_is_refused_and_recorded(centre: Centre) -> None:
    good, spoilt = fusions(centre)
    made = assess(centre, spoilt)
    told = verdicts(made.findings)
    assert told["north/north-echo", "recall PLAX"] == "misses"
    assert told["south/south-echo", "recall PLAX"] == "misses"
    assert told["north/north-echo", "recall A4C"] == "holds"
    error = refusal(centre, spoilt)
    assert error.code is Code.CHANGE_REFUSED
    assert "north/north-echo" in error.message
    assert serving_fusion(centre.ledger) == good
    assert registry_of(centre).current("serving")[0].id == good
    entry = list(centre.ledger.entries())[-1]
    assert (entry.kind, entry.actor, entry.body["fusion"]) == (REFUSED, "ada", spoilt)
    assert entry.body["plan"] == made.plan_hash
    assert entry.body["code"] == int(Code.CHANGE_REFUSED)
    assert any("recall PLAX" in line and "misses" in line for line in entry.body["figures"])
    assert centre.ledger.verify()


def test_an_approval_keeps_who_by_which_plan_and_on_what_figures(centre: Centre) -> None:
    wide = {"metrics": {"macro_f1": {"max_loss": 1.0}}, "recall": {"max_loss": 1.0}}
    plan(centre, everywhere=wide)
    good, spoilt = fusions(centre)
    made = assess(centre, spoilt)
    promote(centre, made, actor="bo", reason="we want it so")
    entry = list(centre.ledger.entries())[-1]
    assert (entry.kind, entry.actor) == (PROMOTED, "bo")
    assert (entry.body["fusion"], entry.body["before"]) == (spoilt, good)
    assert entry.body["plan"] == made.plan_hash
    assert entry.body["figures"]
    assert serving_fusion(centre.ledger) == spoilt


def test_a_rollback_asks_no_plan(centre: Centre) -> None:
    good, spoilt = fusions(centre)
    plan(centre, everywhere={"recall": {"max_loss": 1.0}})
    promote(centre, assess(centre, spoilt), actor="ada", reason="wide")
    (centre.folder / PLAN_FILE).write_text("approvers: []")
    assert rollback(centre, actor="anybody", reason="worse after all")[0] == good


def test_only_those_whom_the_plan_names_may_approve(centre: Centre) -> None:
    plan(centre)
    good, _ = fusions(centre)
    error = refusal(centre, good, actor="eve")
    assert error.code is Code.APPROVER_UNKNOWN
    entry = list(centre.ledger.entries())[-1]
    assert (entry.kind, entry.actor, entry.body["code"]) == (REFUSED, "eve", int(error.code))


def test_a_sites_own_margin_overrides_what_holds_everywhere(centre: Centre) -> None:
    lost = {"PLAX": {"max_loss": 1.0}}
    wide = {"metrics": {"macro_f1": {"max_loss": 1.0}}, "views": lost}
    _, spoilt = fusions(centre)
    plan(centre, sites={"north": wide})
    told = verdicts(assess(centre, spoilt).findings)
    assert told["north/north-echo", "recall PLAX"] == "holds"
    assert told["south/south-echo", "recall PLAX"] == "misses"
    plan(centre, sites={"north": wide, "south/south-echo": wide})
    assert assess(centre, spoilt).refused == ()


@pytest.mark.parametrize(
    ("sites", "code"),
    [
        ({"nroth": {"recall": {"floor": 0.5}}}, Code.CONFIG_INVALID),
        ({"north": {"views": {"SC-4C": {"floor": 0.5}}}}, Code.VIEW_UNKNOWN),
        ({"north": {"recall": {"max_loss": -1.0}}}, Code.CONFIG_INVALID),
    ],
)
def test_a_plan_that_cannot_be_held_is_refused_before_anything_moves(
    centre: Centre, sites: dict[str, Any], code: Code
) -> None:
    plan(centre, sites=sites)
    good, _ = fusions(centre)
    before = centre.ledger.head()
    assert refusal(centre, good).code is code
    assert centre.ledger.head() == before
    assert serving_fusion(centre.ledger) == good


def test_a_withdrawn_dataset_is_named_and_keeps_nobody_back(centre: Centre) -> None:
    centre.state.announce("south", [], now=NOW)
    made = assess(centre, fusions(centre)[0])
    assert ("south/south-echo", "") in verdicts(made.findings)
    assert verdicts(made.findings)["south/south-echo", ""] == "withdrawn"
    assert made.refused == ()


def test_what_serves_is_judged_too_where_the_candidate_never_knew_it(centre: Centre) -> None:
    good, _ = fusions(centre)
    only_north = choose(centre, ())
    only_north = replace(only_north, contents={"north/north-echo": WORLD.content_hash("north")})
    row = fuse(centre, only_north, clock=lambda: NOW)
    register(centre, row.id)
    assert verdicts(assess(centre, row.id).findings)["south/south-echo", "recall A3C"] == "misses"
    assert refusal(centre, row.id).code is Code.CHANGE_REFUSED
    assert serving_fusion(centre.ledger) == good


def report(right: int, content: str) -> dict[str, Any]:
    """What a site says of two labels of which it has 40 test clips each."""
    told = np.log(np.eye(2)[[0] * right + [1] * (80 - right)] * 0.8 + 0.1)
    scores = score_labels(told, np.repeat([0, 1], 40), ("A4C", "A2C"))
    return asdict(scores) | {"dataset": "north-echo", "content": content}


def tell(centre: Centre, fusion: str, right: int, content: str) -> None:
    document = report(right, content)
    centre.state.add_evaluation(
        Evaluation(fusion, "north", "north-echo", content, document, iso(NOW))
    )


def test_the_sites_own_figures_are_judged_like_those_of_the_bank(centre: Centre) -> None:
    good, _ = fusions(centre)
    tell(centre, good, 40, "1" * 64)
    made = assess(centre, good)
    assert verdicts(made.findings, "site")["north/north-echo", "recall A4C"] == "holds"
    assert made.unreported == ("south/south-echo",)


def test_a_site_that_sees_a_loss_keeps_a_candidate_back(centre: Centre) -> None:
    good, spoilt = fusions(centre)
    plan(centre, everywhere={"views": {"A4C": {"max_loss": 0.05}}})
    tell(centre, good, 40, "1" * 64)
    tell(centre, spoilt, 10, "1" * 64)
    made = assess(centre, spoilt)
    assert verdicts(made.findings)["north/north-echo", "recall A4C"] == "holds"
    assert verdicts(made.findings, "site")["north/north-echo", "recall A4C"] == "misses"
    assert refusal(centre, spoilt).code is Code.CHANGE_REFUSED


def test_a_dataset_without_rows_here_is_judged_by_its_site(centre: Centre) -> None:
    plan(centre, uncertain="refuse")
    good, _ = fusions(centre)
    going = {e.sha256 for e in centre.bank.entries() if e.card.site == "north"}
    centre.bank.remove(going)
    told = condense([WORLD.export("north", one) for one in VIEWS], minimum=2, created=iso(NOW))
    centre.bank.statistics.add(told.to_bytes(), WORLD.experts(), now=NOW)
    assert "any figure of north/north-echo" in assess(centre, good).refused[0]
    tell(centre, good, 40, WORLD.content_hash("north"))
    assert assess(centre, good).refused == ()


def test_a_site_whose_content_changed_compares_with_nothing(centre: Centre) -> None:
    good, spoilt = fusions(centre)
    plan(centre, everywhere={"views": {"A4C": {"max_loss": 0.05}}})
    tell(centre, good, 40, "1" * 64)
    tell(centre, spoilt, 10, "2" * 64)
    told = verdicts(assess(centre, spoilt).findings, "site")
    assert told["north/north-echo", "recall A4C"] == "not asked"


def test_labels_that_a_site_tested_in_one_report_only_are_not_compared(centre: Centre) -> None:
    good, spoilt = fusions(centre)
    tell(centre, good, 40, "1" * 64)
    tell(centre, spoilt, 40, "1" * 64)
    (old,) = centre.state.evaluations(good)
    old.document["confusion"] = [[40, 0], [0, 0]]
    centre.state.add_evaluation(old)
    told = verdicts(assess(centre, spoilt).findings, "site")
    assert told["north/north-echo", "recall A4C"] == "holds"
    assert told["north/north-echo", "recall A2C"] == "not asked"
