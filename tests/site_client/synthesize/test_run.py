"""A synthetic dataset is one that ``train`` takes, stamped clip by clip, whole or not there."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from shared.echo.mask import OUTSIDE, Mask
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from shared.synthesis.maps import expect_plausible, map_hash
from shared.synthesis.order import Drawing, Order, Part
from shared.testing.drawers import DRAWER_CARD, ShowingDrawer
from site_client.annotated import Wanted, load_annotated
from site_client.forget import forget
from site_client.store import SiteStore
from site_client.synthesize.preview import save_preview


class KilledError(Exception):
    """Stands for the end of the process."""


def code_of(caught: pytest.ExceptionInfo[EchoFedError]) -> Code:
    return caught.value.code


def told(store: SiteStore) -> list[dict[str, Any]]:
    entries = Ledger(store.ledger_path).entries()
    return [dict(entry.body) for entry in entries if entry.kind == "synthesized"]


@pytest.mark.parametrize("maps", ["phantom", "traced"])
def test_what_is_drawn_is_a_dataset_that_training_reads(yard: Any, maps: str) -> None:
    report = yard.run(maps=maps)
    manifest = yard.store.manifest("drawn")
    assert manifest == report.manifest
    assert (manifest.origin, manifest.source) == ("synthetic", DRAWER_CARD.id)
    assert len(manifest.clips) == 12
    assert {clip.split for clip in manifest.clips} == {"train", "val"}
    frames = load_annotated(yard.store, ["drawn"], Wanted(DRAWER_CARD.image_size))
    assert frames.structures == DRAWER_CARD.structures[1:]
    assert frames.has_sector_N.all()
    assert np.isfinite(frames.mm_per_pixel_N2).all()
    assert not frames.pixels_NSS[~frames.sector_NSS].any()


def test_every_clip_tells_model_seed_and_map_in_its_file_and_in_the_manifest(yard: Any) -> None:
    yard.run()
    seeds = set()
    for record in yard.store.manifest("drawn").clips:
        stamp, clip = record.synthesis, yard.store.clip("drawn", record)
        assert clip.synthesis == stamp
        assert (stamp.synthesizer, stamp.weights_sha256) == (
            DRAWER_CARD.id, DRAWER_CARD.weights_sha256,
        )  # fmt: skip
        labels_SS = np.where(clip.mask_HW, clip.annotation.labels_FHW[0] + 1, 0).astype(np.uint8)
        assert stamp.map_sha256 == map_hash(labels_SS, DRAWER_CARD.structures)
        shown = clip.pixels_THW[0][clip.mask_HW] // 40
        np.testing.assert_array_equal(shown, labels_SS[clip.mask_HW])
        seeds.add(stamp.seed)
    assert len(seeds) == 12


def test_the_ledger_tells_of_the_dataset_once(yard: Any) -> None:
    report = yard.run()
    (body,) = told(yard.store)
    assert body == report.document()
    assert (body["synthesizer"], body["drawn"], body["refused"]) == (DRAWER_CARD.id, 12, {})
    assert body["maps"].startswith("traced ")
    assert body["content_sha256"] == yard.store.manifest("drawn").content_hash()
    again = yard.run()
    assert (again.num_known, again.changed) == (12, False)
    assert len(told(yard.store)) == 1


def test_patients_keep_the_split_that_their_maps_come_from(yard: Any) -> None:
    yard.run(num=24)
    sides = {clip.patient: clip.split for clip in yard.store.manifest("traced").clips}
    drawn = yard.store.manifest("drawn").clips
    assert {clip.patient for clip in drawn} == {p for p, side in sides.items() if side != "test"}
    assert all(clip.split == sides[clip.patient] for clip in drawn)
    load_annotated(yard.store, ["traced", "drawn"], Wanted(32))  # both may be learnt from together


def test_each_heart_of_the_phantom_is_a_patient(yard: Any) -> None:
    yard.run(maps="phantom", num=20)
    clips = yard.store.manifest("drawn").clips
    assert len({clip.patient for clip in clips}) == 20
    assert sum(clip.split == "val" for clip in clips) >= 3


def test_maps_are_warped_plausible_and_none_twice(yard: Any) -> None:
    yard.run(num=24)
    maps = [labels_SS for order in yard.orders for labels_SS in order.labels_NHW]
    assert len({map_hash(labels_SS, DRAWER_CARD.structures) for labels_SS in maps}) == 24
    for labels_SS in maps:
        expect_plausible(labels_SS, DRAWER_CARD.structures)
    assert all(order.structures[0] == OUTSIDE for order in yard.orders)


def test_the_same_request_gives_the_same_dataset_and_another_seed_another(
    yard: Any, store: SiteStore
) -> None:
    first = yard.run(dataset="one").manifest.clips
    second = yard.run(dataset="two").manifest.clips
    other = yard.run(dataset="three", seed=2).manifest.clips
    assert [clip.sha256 for clip in first] == [clip.sha256 for clip in second]
    assert not {clip.sha256 for clip in first} & {clip.sha256 for clip in other}


@pytest.mark.parametrize("num_before", [1, 8, 11])
def test_a_killed_run_goes_on_where_it_stood(yard: Any, num_before: int) -> None:
    whole = yard.run(dataset="whole").manifest.clips
    yard.orders.clear()
    ask, yard.ask = yard.ask, None

    def killed(order: Order) -> Iterator[Part]:
        for part in ask(order):
            if isinstance(part, Drawing) and drawn["drawn"] == num_before:
                raise KilledError
            drawn["drawn"] += isinstance(part, Drawing)
            yield part

    drawn, yard.ask = {"drawn": 0}, killed
    with pytest.raises(KilledError):
        yard.run()
    assert "drawn" not in yard.store.datasets()
    assert not [body for body in told(yard.store) if body["dataset"] == "drawn"]
    yard.ask = ask
    yard.orders.clear()
    report = yard.run()
    assert report.num_known == num_before
    assert len(yard.orders) == 2 - num_before // 8
    assert [clip.sha256 for clip in report.manifest.clips] == [clip.sha256 for clip in whole]
    stored = {path.stem for path in (yard.store.dataset_folder("drawn") / "clips").iterdir()}
    assert stored == {clip.sha256 for clip in report.manifest.clips}


def test_a_full_disk_loses_nothing(yard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        calls, sync = count(), os.fsync

        def fill_up(descriptor: int) -> None:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and next(calls) >= 6:
                raise OSError(errno.ENOSPC, "no space")
            sync(descriptor)

        patch.setattr(os, "fsync", fill_up)
        with pytest.raises(EchoFedError) as caught:
            yard.run()
    assert code_of(caught) is Code.DISK_FULL
    assert "drawn" not in yard.store.datasets()
    assert told(yard.store) == []
    report = yard.run()
    assert 0 < report.num_known < 12
    assert len(report.manifest.clips) == 12


def test_more_of_the_same_are_added(yard: Any) -> None:
    few = {clip.key: clip for clip in yard.run(num=8).manifest.clips}
    yard.orders.clear()
    many = {clip.key: clip for clip in yard.run(num=20).manifest.clips}
    assert len(many) == 20
    assert len(yard.orders) == 2
    assert few == {key: many[key] for key in few}


def test_a_clip_that_is_damaged_is_drawn_again(yard: Any) -> None:
    clips = yard.run().manifest.clips
    (yard.store.dataset_folder("drawn") / clips[3].file).write_bytes(b"")
    assert yard.run().num_known == 11
    assert all(yard.store.holds("drawn", clip) for clip in clips)


def test_images_that_may_not_be_released_are_counted_and_not_kept(yard: Any) -> None:
    yard.drawer = ShowingDrawer(releases=lambda seed: seed % 3 == 0)
    report = yard.run(num=40)
    num = len(report.manifest.clips)
    assert 0 < num < 40
    assert report.refused == {"EGRESS_DENIED": 40 - num}
    assert told(yard.store)[0]["refused"] == report.refused
    yard.orders.clear()
    assert yard.run(num=40).num_known == 40
    assert not yard.orders


def test_a_map_that_the_host_refuses_is_left_out_and_the_others_are_drawn(yard: Any) -> None:
    ask = yard.ask

    def choosy(order: Order) -> Iterator[Part]:
        assert order.labels_NHW is not None
        hashes = [map_hash(labels_SS, order.structures) for labels_SS in order.labels_NHW]
        if any(int(one, 16) % 3 == 0 for one in hashes):
            raise EchoFedError(Code.MAP_IMPLAUSIBLE, "no frame of a heart has this label map")
        yield from ask(order)

    yard.ask = choosy
    report = yard.run(num=16)
    num = len(report.manifest.clips)
    assert 0 < num < 16
    assert report.refused == {"MAP_IMPLAUSIBLE": 16 - num}
    assert all(int(clip.synthesis.map_sha256, 16) % 3 for clip in report.manifest.clips)
    assert yard.run(num=16).num_known == 16


def _twice(parts: list[Any]) -> list[Any]:
    return [*parts, parts[-1]]


def _nameless(parts: list[Any]) -> list[Any]:
    return parts[1:]


def _fewer(parts: list[Any]) -> list[Any]:
    return parts[:-1]


def _elsewhere(parts: list[Any]) -> list[Any]:
    return [parts[0], replace(parts[1], place=99)]


def _without_outside(parts: list[Any]) -> list[Any]:
    mask = Mask(parts[1].map.labels_HW, ("elsewhere", *parts[1].map.names[1:]), None, "")
    return [parts[0], replace(parts[1], map=mask), *parts[2:]]


@pytest.mark.parametrize("spoil", [_twice, _nameless, _fewer, _elsewhere, _without_outside])
def test_a_strange_answer_is_refused_and_makes_no_dataset(yard: Any, spoil: Any) -> None:
    ask = yard.ask
    yard.ask = lambda order: iter(spoil(list(ask(order))))
    with pytest.raises(EchoFedError) as caught:
        yard.run(num=8)
    assert code_of(caught) is Code.WIRE_INVALID
    assert "drawn" not in yard.store.datasets()


def test_no_dataset_stands_where_every_image_is_held_back(yard: Any) -> None:
    yard.drawer = ShowingDrawer(releases=lambda seed: False)
    with pytest.raises(EchoFedError) as caught:
        yard.run()
    assert code_of(caught) is Code.NOTHING_INGESTED
    assert "drawn" not in yard.store.datasets()


def test_a_patient_who_is_forgotten_takes_along_what_was_drawn_of_the_heart(yard: Any) -> None:
    manifest = yard.run(num=16).manifest
    preview = yard.store.preview_path("drawn")
    save_preview(yard.store, manifest, preview)
    patient = manifest.clips[0].patient
    forget(yard.store, patient, yard.store.datasets(), site="north")
    left = yard.store.manifest("drawn").clips
    assert 0 < len(left) < 16
    assert all(patient != clip.patient for clip in left)
    files = {path.stem for path in (yard.store.dataset_folder("drawn") / "clips").iterdir()}
    assert files == {clip.sha256 for clip in left}
    assert not preview.is_file()


def test_what_two_models_drew_is_never_mixed(yard: Any) -> None:
    yard.run(num=8)
    shutil.rmtree(yard.store.dataset_folder("drawn") / "clips")
    (yard.store.dataset_folder("drawn") / "manifest.json").unlink()
    yard.run(num=8)
    yard.drawer = ShowingDrawer(replace(DRAWER_CARD, weights_sha256="1" * 64))
    with pytest.raises(EchoFedError) as caught:
        yard.run(num=20)
    assert code_of(caught) is Code.IDENTITY_MISMATCH
    clips = yard.run(num=20).manifest.clips
    assert {clip.synthesis.weights_sha256 for clip in clips} == {"1" * 64}


@pytest.mark.parametrize(
    ("before", "changes", "code"),
    [
        ({}, {"seed": 2}, Code.ALREADY_EXISTS),
        ({}, {"num": 8}, Code.ALREADY_EXISTS),
        ({}, {"steps": 9}, Code.ALREADY_EXISTS),
        (None, {"dataset": "traced"}, Code.ORIGIN_UNFIT),
        ({}, {"dataset": "twice", "maps": "drawn"}, Code.ORIGIN_UNFIT),
        (None, {"maps": "nowhere"}, Code.DATASET_UNKNOWN),
        (None, {"num": 0}, Code.CONFIG_INVALID),
        (None, {"num": 10**6}, Code.CONFIG_INVALID),
        (None, {"seed": -1}, Code.CONFIG_INVALID),
        (None, {"dataset": "a/b"}, Code.CONFIG_INVALID),
        (None, {"steps": 10**6}, Code.CONFIG_INVALID),
        (None, {"solver": "magic"}, Code.CONFIG_INVALID),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    yard: Any, before: dict[str, Any] | None, changes: dict[str, Any], code: Code
) -> None:
    if before is not None:
        yard.run(**before)
    manifests = {name: yard.store.manifest(name) for name in yard.store.datasets()}
    with pytest.raises(EchoFedError) as caught:
        yard.run(**changes)
    assert code_of(caught) is code
    assert {name: yard.store.manifest(name) for name in yard.store.datasets()} == manifests
    for name, manifest in manifests.items():
        assert all(yard.store.holds(name, clip) for clip in manifest.clips)
