"""A withdrawn dataset: nothing of it leaves, what was made of it goes, the clips stay."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from shared.echo.expert import Block, ExpertCard, FusionCard, save_checkpoint
from shared.echo.features import FeatureExport
from shared.echo.segmenter import save_segmenter
from shared.echo.synthesizer import save_synthesizer
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.ledger import Ledger
from shared.testing.segmenters import untrained_segmenter
from shared.testing.synthesizers import untrained_synthesizer
from site_client.egress import open_egress
from site_client.policy import DatasetPolicy, Policy, load_policy, save_policy
from site_client.rounds.exports import kept_export
from site_client.store import SiteStore
from site_client.withdraw import WITHDRAWN, withdraw

StripedSite = Callable[..., SiteStore]
TODAY = date(2026, 11, 22)
CONSENT = DatasetPolicy(
    purposes=("fusion", "evaluation"),
    recipients=("echofed",),
    artefacts=("rows", "expert_weights"),
    minimum_patients_per_view=2,
)


def add_expert(
    store: SiteStore, name: str, dataset: str, *, site: str = "north", parent: str = ""
) -> ExpertCard:
    weights = name.encode()
    card = ExpertCard(
        id=name, site=site, datasets=(dataset,), dataset_hashes=("0" * 64,), origin="phantom",
        backbone="b", image_size=32, views=("A4C", "A2C"), feature_width=1, layers=(),
        weights_sha256=sha256_hex(weights), parent=parent, seed=1, settings_hash="", settings={},
        metrics={}, created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    save_checkpoint(store.expert_folder(name), card, weights)
    return card


def add_fusion(
    store: SiteStore, name: str, experts: tuple[str, ...], exports: tuple[str, ...]
) -> None:
    weights = name.encode()
    blocks = tuple(Block(expert, ("A4C", "A2C"), 1, 0) for expert in experts)
    card = FusionCard(
        id=name, variant="ridge", views=("A4C", "A2C"), blocks=blocks,
        weights_sha256=sha256_hex(weights), parent="", exports=exports, fresh=(), cached=(),
        missing=(), seed=1, settings_hash="", settings={}, metrics={}, abstain_below=0.0,
        created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    save_checkpoint(store.fusion_folder(name), card, weights)


@pytest.fixture
def store(striped_site: StripedSite, feature_export: FeatureExport) -> SiteStore:
    """A site with two datasets, experts, fusions and kept exports of both."""
    store = striped_site()
    striped_site(dataset="more", num_patients=4)
    save_policy(Policy(datasets={"demo": CONSENT, "more": CONSENT}), policy_of(store))
    cards = [
        add_expert(store, "north-demo", "demo"),
        add_expert(store, "north-child", "more", parent="north-demo"),
        add_expert(store, "north-more", "more"),
        add_expert(store, "south-demo", "demo", site="south"),
    ]
    add_fusion(store, "with-expert", ("north-demo", "south-demo"), ())
    add_fusion(store, "with-rows", ("south-demo",), ("north-demo-0123abcd-4567abcd",))
    add_fusion(store, "without", ("south-demo", "north-more"), ("north-demo-2-0123abcd-4567abcd",))
    store.set_serving("with-rows")
    for name in store.datasets():
        content = store.manifest(name).content_hash()
        for card in (cards[0], cards[2]):
            kept_export(store, content, card, "2-1", lambda: feature_export)
    return store


def policy_of(store: SiteStore) -> Path:
    return store.root / "policy.yaml"


def take_back(store: SiteStore, dataset: str = "demo") -> dict[str, Any]:
    return withdraw(store, policy_of(store), dataset, site="north", today=TODAY).document()


def files_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("ledger")
    }


def refused(call: Callable[[], Any]) -> Code:
    with pytest.raises(EchoFedError) as caught:
        call()
    return caught.value.code


def test_segmenters_go_with_their_children_and_their_aliases(store: SiteStore) -> None:
    first = untrained_segmenter(1, dataset="demo")
    child = untrained_segmenter(2, dataset="more", parent=first[0].id)
    other = untrained_segmenter(3, dataset="more")
    theirs = untrained_segmenter(4, dataset="demo", site="south")
    for card, weights in (first, child, other, theirs):
        save_segmenter(store.segmenter_folder(card.id), card, weights)
        store.set_alias(f"of-{card.seed}", card.id)
    done = take_back(store)
    assert set(done["segmenters"]) == {first[0].id, child[0].id}
    assert set(store.segmenters()) == {other[0].id, theirs[0].id}
    assert set(store.aliases()) == {"of-3", "of-4"}


def test_synthesizers_go_as_segmenters_do(store: SiteStore) -> None:
    first = untrained_synthesizer(1, dataset="demo")
    child = untrained_synthesizer(2, dataset="more", parent=first[0].id)
    other = untrained_synthesizer(3, dataset="more")
    for card, weights in (first, child, other):
        save_synthesizer(store.synthesizer_folder(card.id), card, weights)
        store.set_alias(f"of-{card.seed}", card.id)
    done = take_back(store)
    assert set(done["synthesizers"]) == {first[0].id, child[0].id}
    assert store.synthesizers() == (other[0].id,)
    assert set(store.aliases()) == {"of-3"}


def test_experts_with_their_children_fusions_and_exports_go_and_the_clips_stay(
    store: SiteStore,
) -> None:
    clips = files_of(store.root / "datasets")
    done = take_back(store)
    assert done["experts"] == ["north-child", "north-demo"]
    assert done["fusions"] == ["with-expert", "with-rows"]
    assert (done["exports"], done["was_serving"]) == (3, "with-rows")
    assert store.experts() == ("north-more", "south-demo")
    assert store.fusions() == ("without",)
    assert store.serving_fusion() is None
    (left,) = (store.root / "exports").iterdir()
    assert left.name.startswith(store.manifest("more").content_hash()[:32])
    assert files_of(store.root / "datasets") == clips


def test_a_fusion_that_learned_from_its_statistics_goes_too(store: SiteStore) -> None:
    by_two = "north-demo-0123abcd-4567abcd-89ababcd"
    add_fusion(store, "with-statistics", ("south-demo",), (by_two,))
    assert "with-statistics" in take_back(store)["fusions"]


def test_from_then_on_nothing_of_it_leaves_and_the_centre_is_told(store: SiteStore) -> None:
    take_back(store)
    ledger = Ledger(store.ledger_path)
    egress = open_egress(policy_of(store), ledger, site="north", recipient="echofed")
    manifest = store.manifest("demo")
    assert refused(lambda: egress.release_description(manifest)) is Code.DATASET_WITHDRAWN
    assert refused(lambda: egress.release_metrics({}, manifest)) is Code.DATASET_WITHDRAWN
    assert egress.release_withdrawals() == ["demo"]
    again = add_expert(store, "north-again", "demo")
    assert egress.release_inventory([again], received=[])["experts"] == []
    egress.release_description(store.manifest("more"))
    other = open_egress(policy_of(store), ledger, site="north", recipient="others")
    assert other.release_withdrawals() == []


def test_the_policy_keeps_the_first_day_and_raises_its_revision_once(store: SiteStore) -> None:
    take_back(store)
    policy = load_policy(policy_of(store))
    assert policy.datasets["demo"].withdrawn == TODAY
    assert policy.datasets["more"] == CONSENT
    assert policy.revision == 2
    (entry,) = [e for e in Ledger(store.ledger_path).entries() if e.kind == WITHDRAWN]
    assert entry.body["policy_revision"] == 2


def test_unknown_and_repeated_withdrawals_are_refused(store: SiteStore) -> None:
    before = files_of(store.root)
    assert refused(lambda: take_back(store, "demi")) is Code.DATASET_UNKNOWN
    assert files_of(store.root) == before
    take_back(store)
    after = files_of(store.root)
    assert refused(lambda: take_back(store)) is Code.NOTHING_TO_DO
    assert files_of(store.root) == after


def test_a_dataset_that_only_the_policy_or_only_the_store_knows_can_go(store: SiteStore) -> None:
    policy = load_policy(policy_of(store))
    save_policy(policy.model_copy(update={"datasets": {"old": CONSENT}}), policy_of(store))
    take_back(store, "old")
    take_back(store, "more")
    found = load_policy(policy_of(store)).datasets
    assert found["old"].withdrawn == found["more"].withdrawn == TODAY


@contextmanager
def power_cut(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[list[int]]:
    """Fail at the given change of the disk or the ledger, and tell how many were tried."""
    made: list[int] = []

    def failing(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            made.append(1)
            if len(made) == step + 1:
                raise OSError("cut")
            return change(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(os.replace))
        patch.setattr(Path, "unlink", failing(Path.unlink))
        patch.setattr(shutil, "rmtree", failing(shutil.rmtree))
        patch.setattr(Ledger, "append", failing(Ledger.append))
        yield made


def test_cut_off_at_any_step_it_can_be_done_again(
    store: SiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SiteStore(tmp_path / "whole")
    shutil.copytree(store.root, whole.root)
    with power_cut(monkeypatch, 1000) as steps:
        take_back(whole)
    assert len(steps) == 14  # policy, ledger, 3 exports, serving, 2 a fusion and expert
    for step in range(len(steps)):
        cut = SiteStore(tmp_path / f"cut{step}")
        shutil.copytree(store.root, cut.root)
        with power_cut(monkeypatch, step), pytest.raises(OSError, match="cut"):
            take_back(cut)
        take_back(cut)
        assert files_of(cut.root) == files_of(whole.root)
        assert any(entry.kind == WITHDRAWN for entry in Ledger(cut.ledger_path).entries())
