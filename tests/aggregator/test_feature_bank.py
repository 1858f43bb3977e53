"""The feature bank: accepts once, refuses what does not fit, joins frame by frame."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from aggregator.feature_bank import INDEX_FILE, FeatureBank
from shared.echo.expert import ExpertCard
from shared.echo.features import ARRAYS, EXPORT_VERSION, FeatureExport
from shared.echo.schema import to_document
from shared.errors import Code, EchoFedError
from shared.files import arrays_to_bytes
from shared.testing.exports import GaussianWorld

NOW = datetime(2026, 1, 2, tzinfo=UTC)
WORLD = GaussianWorld(
    {"north": ("A4C", "A2C"), "south": ("A4C", "PLAX")}, num_clips=8, feature_width=6
)
NORTH, SOUTH = WORLD.expert("north").id, WORLD.expert("south").id


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "bank"


@pytest.fixture
def bank(root: Path) -> FeatureBank:
    return FeatureBank(root)


def fill(bank: FeatureBank, *pairs: tuple[str, str]) -> None:
    for site, expert in pairs or [(a, b) for a in WORLD.views for b in WORLD.views]:
        bank.add(WORLD.export(site, expert).to_bytes(), WORLD.experts(), now=NOW)


def packed(export: FeatureExport, **arrays: np.ndarray) -> bytes:
    """Pack an export as a faulty site would: without any check."""
    plain = {name: getattr(export, name) for name in ARRAYS}
    return arrays_to_bytes({**plain, **arrays}, {"card": json.dumps(to_document(export.card))})


def shuffled(export: FeatureExport, keep: int | None = None) -> FeatureExport:
    order = np.random.default_rng(5).permutation(export.card.num_rows)[:keep]
    arrays = {name: getattr(export, name)[order] for name in ARRAYS}
    return replace(export, card=replace(export.card, num_rows=len(order)), **arrays)


def test_an_export_read_back_is_the_one_that_came(bank: FeatureBank, root: Path) -> None:
    export = WORLD.export("north", "south")
    entry = bank.add(export.to_bytes(), WORLD.experts(), now=NOW)
    again = FeatureBank(root).read(entry)
    assert again.card == export.card
    assert all(np.array_equal(getattr(again, n), getattr(export, n)) for n in ARRAYS)


def test_equal_bytes_change_nothing(bank: FeatureBank) -> None:
    fill(bank, ("north", "north"))
    before = bank.entries()
    later = datetime(2027, 1, 1, tzinfo=UTC)
    bank.add(WORLD.export("north", "north").to_bytes(), WORLD.experts(), now=later)
    assert bank.entries() == before


def test_a_file_without_its_index_entry_is_taken_again(bank: FeatureBank, root: Path) -> None:
    fill(bank)
    (root / INDEX_FILE).unlink()  # the centre died between the two
    assert bank.entries() == ()
    fill(bank)
    assert len(bank.entries()) == 4


def test_removal_takes_the_export_its_file_and_what_no_entry_names(
    bank: FeatureBank, root: Path
) -> None:
    fill(bank)
    going, *staying = bank.entries()
    (root / f"{'0' * 64}.safetensors").write_bytes(b"of a run that died")
    bank.remove({going.sha256})
    assert bank.entries() == tuple(staying)
    assert bank.files() == {entry.sha256 for entry in staying}
    bank.remove({going.sha256})
    assert bank.entries() == tuple(staying)


def nan(export: FeatureExport) -> bytes:
    features_ND = export.features_ND.copy()
    features_ND[3, 1] = np.nan
    return packed(export, features_ND=features_ND)


def infinite_logit(export: FeatureExport) -> bytes:
    logits_NC = export.logits_NC.copy()
    logits_NC[0, 0] = np.inf
    return packed(export, logits_NC=logits_NC)


def narrow(export: FeatureExport) -> bytes:
    return packed(export, features_ND=export.features_ND[:, :5])


def narrow_with_its_card(export: FeatureExport) -> bytes:
    card = replace(export.card, feature_width=5)
    return replace(export, card=card, features_ND=export.features_ND[:, :5]).to_bytes()


def newer(export: FeatureExport) -> bytes:
    return replace(export, card=replace(export.card, version=EXPORT_VERSION + 1)).to_bytes()


def frame_twice(export: FeatureExport) -> bytes:
    frame_N = export.frame_N.copy()
    frame_N[frame_N == frame_N[0]] = frame_N[-1]
    pass_N = np.zeros_like(export.pass_N)
    return packed(export, frame_N=frame_N, pass_N=pass_N)


def undeclared(export: FeatureExport) -> bytes:
    return packed(export, pixels_NHW=np.zeros((2, 4, 4), np.uint8))


def unknown_expert(export: FeatureExport) -> bytes:
    return replace(export, card=replace(export.card, expert="nobody")).to_bytes()


def other_weights(export: FeatureExport) -> bytes:
    return replace(export, card=replace(export.card, expert_sha256="0" * 64)).to_bytes()


def truncated(export: FeatureExport) -> bytes:
    return export.to_bytes()[:-7]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (nan, Code.FEATURES_NOT_FINITE),
        (infinite_logit, Code.FEATURES_NOT_FINITE),
        (narrow, Code.FEATURE_WIDTH),
        (narrow_with_its_card, Code.FEATURE_WIDTH),
        (newer, Code.CARD_NEWER),
        (frame_twice, Code.FEATURES_INVALID),
        (undeclared, Code.FEATURES_INVALID),
        (unknown_expert, Code.EXPERT_UNKNOWN),
        (other_weights, Code.FEATURES_INVALID),
        (truncated, Code.CHECKPOINT_CORRUPT),
    ],
)
def test_a_faulty_export_has_its_code_and_loses_nothing(
    bank: FeatureBank, root: Path, spoil: Callable[[FeatureExport], bytes], code: Code
) -> None:
    fill(bank, ("north", "north"))
    files = sorted(path.name for path in root.iterdir())
    with pytest.raises(EchoFedError) as refused:
        bank.add(spoil(WORLD.export("north", "south")), WORLD.experts(), now=NOW)
    assert refused.value.code == code
    assert refused.value.hint
    assert sorted(path.name for path in root.iterdir()) == files


def test_a_second_different_reply_is_refused(bank: FeatureBank) -> None:
    fill(bank)
    before = bank.entries()
    with pytest.raises(EchoFedError) as twice:
        bank.add(shuffled(WORLD.export("north", "south")).to_bytes(), WORLD.experts(), now=NOW)
    assert twice.value.code == Code.DUPLICATE_REPLY
    assert bank.entries() == before


def test_another_vocabulary_for_the_same_content_is_refused(bank: FeatureBank) -> None:
    fill(bank, ("north", "north"))
    export = WORLD.export("north", "south")
    renamed = replace(export, card=replace(export.card, labels=("four", "two")))
    with pytest.raises(EchoFedError) as refused:
        bank.add(renamed.to_bytes(), WORLD.experts(), now=NOW)
    assert refused.value.code == Code.FEATURES_INVALID


def test_what_a_site_rules_out_comes_with_its_rows(bank: FeatureBank) -> None:
    fill(bank, ("south", "north"))
    export = WORLD.export("north", "north")
    told = {"annotated": ("A4C-full",), "never_images": ("SSN",), "folds": {"A5C": "A4C"}}
    card = replace(export.card, **told)
    bank.add(replace(export, card=card).to_bytes(), WORLD.experts(), now=NOW)
    south, north = bank.join([NORTH]).datasets
    assert {name: getattr(north, name) for name in told} == told
    assert (south.annotated, south.never_images, south.folds) == ((), (), {})


def test_an_altered_file_is_noticed(bank: FeatureBank, root: Path) -> None:
    fill(bank)
    entry = bank.entries()[0]
    path = root / f"{entry.sha256}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(EchoFedError) as altered:
        bank.join([NORTH, SOUTH])
    assert altered.value.code == Code.CHECKPOINT_CORRUPT


def test_a_newer_index_is_refused(bank: FeatureBank, root: Path) -> None:
    fill(bank, ("north", "north"))
    path = root / INDEX_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(EchoFedError) as newer_index:
        bank.entries()
    assert newer_index.value.code == Code.CARD_NEWER


def test_rows_join_by_frame_and_pass_in_whatever_order_they_came(bank: FeatureBank) -> None:
    known = WORLD.experts()
    for site in WORLD.views:
        bank.add(WORLD.export(site, "north").to_bytes(), known, now=NOW)
        bank.add(shuffled(WORLD.export(site, "south")).to_bytes(), known, now=NOW)
    joined = bank.join([SOUTH, NORTH])
    assert [block.expert for block in joined.blocks] == [SOUTH, NORTH]
    assert joined.missing == {}
    for rows, site in zip(joined.datasets, WORLD.views, strict=True):
        assert rows.name == f"{site}/{site}-echo"
        for place, expert in enumerate(("south", "north")):
            export = WORLD.export(site, expert)
            order = np.lexsort((export.pass_N, export.frame_N))
            assert np.array_equal(rows.features[place], export.features_ND[order])
            assert np.array_equal(rows.logits[place], export.logits_NC[order])
            assert np.array_equal(rows.evidence[place], export.discrepancy_NL[order])
            assert np.array_equal(rows.label_N, export.label_N[order])
        assert all(array.dtype == np.float32 for array in rows.features)
        assert rows.num_dropped == 0


def test_a_row_that_one_expert_lacks_is_dropped_and_counted(bank: FeatureBank) -> None:
    fill(bank, ("north", "north"), ("south", "north"), ("south", "south"))
    export = shuffled(WORLD.export("north", "south"), keep=11)
    bank.add(export.to_bytes(), WORLD.experts(), now=NOW)
    north = bank.join([NORTH, SOUTH]).datasets[0]
    assert len(north.label_N) == 11
    assert north.num_dropped == WORLD.export("north", "north").card.num_rows - 11


def test_clips_stay_together_under_whichever_numbers_they_came(bank: FeatureBank) -> None:
    fill(bank)
    one, other = (bank.join(order).datasets[0] for order in ([NORTH, SOUTH], [SOUTH, NORTH]))
    same_clip = one.clip_N[:, None] == one.clip_N
    assert np.array_equal(same_clip, other.clip_N[:, None] == other.clip_N)


def test_a_dataset_without_an_export_by_an_expert_is_named_and_kept(bank: FeatureBank) -> None:
    fill(bank, ("north", "north"), ("south", "north"), ("south", "south"))
    joined = bank.join([NORTH, SOUTH])
    assert joined.missing == {"north/north-echo": (SOUTH,)}
    north = joined.datasets[0]
    assert north.available == (True, False)
    assert not north.features[1].any()
    assert len(north.label_N) == WORLD.export("north", "north").card.num_rows


def test_contents_of_one_dataset_are_never_mixed(bank: FeatureBank) -> None:
    grown = replace(WORLD, seed=1)
    fill(bank)
    export = grown.export("north", "north")
    card: ExpertCard = WORLD.expert("north")
    changed = replace(export.card, expert=card.id, expert_sha256=card.weights_sha256, id="grown")
    bank.add(replace(export, card=changed).to_bytes(), WORLD.experts(), now=NOW)
    assert bank.latest()["north/north-echo"] == grown.content_hash("north")
    joined = bank.join([NORTH, SOUTH])
    assert joined.missing == {"north/north-echo": (SOUTH,)}
    assert joined.datasets[0].exports == ("grown",)
    earlier = {"north/north-echo": WORLD.content_hash("north")}
    assert bank.join([NORTH, SOUTH], earlier).missing == {}


def test_only_what_is_missing_is_asked_for(bank: FeatureBank) -> None:
    contents = {f"{site}/{site}-echo": WORLD.content_hash(site) for site in WORLD.views}
    everyone = dict.fromkeys(contents, (NORTH, SOUTH))
    assert bank.lacks(contents, [NORTH, SOUTH]) == everyone
    fill(bank, ("north", "north"), ("south", "north"), ("south", "south"))
    assert bank.lacks(contents, [NORTH, SOUTH]) == {"north/north-echo": (SOUTH,)}


def test_an_empty_bank_and_an_unseen_expert_have_their_codes(bank: FeatureBank) -> None:
    with pytest.raises(EchoFedError) as empty:
        bank.join([])
    assert empty.value.code == Code.FRAMES_MISSING
    fill(bank, ("north", "north"))
    with pytest.raises(EchoFedError) as unseen:
        bank.join([NORTH, SOUTH])
    assert unseen.value.code == Code.EXPERT_UNKNOWN


@pytest.mark.parametrize("name", ["label_N", "split_N"])
def test_an_export_that_contradicts_another_of_the_same_content_is_refused(
    bank: FeatureBank, name: str
) -> None:
    fill(bank, ("north", "north"))
    export = WORLD.export("north", "south")
    array_N = getattr(export, name).copy()
    place = np.flatnonzero(export.split_N == 1)[0]
    array_N[place] = (array_N[place] + 1) % 2
    with pytest.raises(EchoFedError) as contradiction:
        bank.add(packed(export, **{name: array_N}), WORLD.experts(), now=NOW)
    assert contradiction.value.code == Code.FEATURES_INVALID
    assert len(bank.entries()) == 1


def test_an_export_is_recorded_before_it_counts(tmp_path: Path) -> None:
    """A death between both leaves a record of what is not stored, never a store without record."""
    bank, world = FeatureBank(tmp_path), GaussianWorld({"north": ("A4C", "A2C")}, num_clips=8)
    data = world.export("north", "north").to_bytes()
    now = datetime(2026, 1, 2, tzinfo=UTC)

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bank.add(data, world.experts(), now=now, record=die)
    assert bank.entries() == ()
    told: list[str] = []
    bank.add(data, world.experts(), now=now, record=lambda: told.append("arrived"))
    bank.add(data, world.experts(), now=now, record=lambda: told.append("again"))
    assert told == ["arrived"]
