"""The data sheet counts right, hides what is too small, and cannot be undone by subtraction."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.echo.manifest import ClipRecord, DatasetManifest
from shared.echo.sector import Fan
from site_client.clip_file import StoredClip, save_clip
from site_client.confounds import UNKNOWN
from site_client.data_sheet import WITHHELD, Acquisition, count_groups, describe, read_acquisitions
from site_client.store import SiteStore

PLAIN = Acquisition("48x64", 4, 33.0, 0.5, "fan", "80 deg wide, near/far 0.1")
StripedSite = Callable[..., SiteStore]


def clips_of(name: str, num_patients: int) -> list[ClipRecord]:
    return [
        ClipRecord(f"{name}{n}{take}", f"{name}{n}", name, "train", 3, "f", "0" * 64)
        for n in range(num_patients)
        for take in "ab"
    ]


def silent(units: int, note: str) -> None:
    return None


def test_large_groups_are_counted_by_patient_clip_and_frame() -> None:
    assert count_groups({"a": clips_of("a", 7), "b": clips_of("b", 9)}, 5) == {
        "a": {"patients": 7, "clips": 14, "frames": 42},
        "b": {"patients": 9, "clips": 18, "frames": 54},
    }


def test_a_small_group_is_hidden_with_the_next_smallest() -> None:
    counted = count_groups(
        {name: clips_of(name, n) for name, n in (("a", 3), ("b", 9), ("c", 8))}, 5
    )
    assert counted["a"] == {"patients": "<5", "clips": None, "frames": None}
    assert counted["b"]["patients"] == 9
    assert counted["c"] == {"patients": WITHHELD, "clips": None, "frames": None}


def test_no_patient_is_no_secret() -> None:
    counted = count_groups({"a": [], "b": clips_of("b", 9)}, 5)
    assert counted["a"]["patients"] == 0
    assert counted["b"]["patients"] == 9


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(1, 12))
def test_what_is_hidden_is_never_left_alone_with_the_total(sizes: list[int], minimum: int) -> None:
    groups = {f"g{place}": clips_of(f"g{place}", size) for place, size in enumerate(sizes)}
    counted = count_groups(groups, minimum)
    hidden = [
        size for (_, row), size in zip(counted.items(), sizes, strict=True) if row["clips"] is None
    ]
    shown = [row["patients"] for row in counted.values() if row["clips"] is not None]
    assert all(count == 0 or count >= minimum for count in shown)
    assert all(
        (row["frames"] is None) == isinstance(row["patients"], str) for row in counted.values()
    )
    if hidden and any(shown):
        assert len(hidden) >= 2
        assert sum(hidden) >= minimum


def test_the_sheet_tells_what_the_dataset_holds(striped_site: StripedSite) -> None:
    store = striped_site({"4CH": ("A4C",), "apical": ("A4C", "A2C"), "?": ()})
    manifest = replace(store.manifest("demo"), licence="CC BY 4.0", purpose="views")
    sheet = describe(manifest, read_acquisitions(store, manifest, silent), minimum=2)
    assert sheet["total"] == {"patients": 12, "clips": 36, "frames": 108}
    assert sheet["labels"]["apical"] == {
        "patients": 12, "clips": 12, "frames": 36, "views": ["A4C", "A2C"],
    }  # fmt: skip
    assert {view: row["clips"] for view, row in sheet["views"].items()} == {"A4C": 24, "A2C": 12}
    assert {name: row["patients"] for name, row in sheet["splits"].items()} == {
        "train": 8, "val": 2, "test": 2,
    }  # fmt: skip
    assert sheet["picture_sizes"]["48x64"]["clips"] == 36
    assert sheet["sectors"]["fan"]["clips"] == 36
    assert sheet["mm_per_pixel"] == {
        "least": 0.5, "middle": 0.5, "greatest": 0.5, "share_known": 1.0,
    }  # fmt: skip
    assert (sheet["licence"], sheet["purpose"], sheet["kept_pixels"]) == (
        "CC BY 4.0", "views", "screen",
    )  # fmt: skip
    assert sheet["content_sha256"] == manifest.content_hash()
    assert sheet["possible_shortcuts"] == []


def test_the_sheet_tells_which_structures_are_annotated(striped_site: StripedSite) -> None:
    store = striped_site({"4CH": ("A4C",)})
    manifest = store.manifest("demo")
    patients = sorted({clip.patient for clip in manifest.clips})[:5]
    some = [
        replace(clip, structures=("background", "lv", "la")) if clip.patient in patients else clip
        for clip in manifest.clips
    ]
    annotated = replace(manifest, clips=tuple(some))
    sheet = describe(annotated, read_acquisitions(store, manifest, silent), minimum=2)
    assert {name: row["patients"] for name, row in sheet["annotations"].items()} == {
        "lv, la": 5, "": 7,
    }  # fmt: skip


def test_a_dataset_of_few_patients_tells_no_count_at_all(striped_site: StripedSite) -> None:
    store = striped_site(num_patients=4)
    manifest = store.manifest("demo")
    sheet = describe(manifest, read_acquisitions(store, manifest, silent), minimum=5)
    for kind in (
        "splits",
        "labels",
        "views",
        "annotations",
        "picture_sizes",
        "sectors",
        "fan_shapes",
    ):
        assert all(row["clips"] is None or row["clips"] == 0 for row in sheet[kind].values())
    assert sheet["total"] == {"patients": "<5", "clips": None, "frames": None}
    assert sheet["labels_not_judged"] == ["2CH", "4CH"]


def test_views_give_no_hidden_label_away(manifest: DatasetManifest) -> None:
    """Labels a (2 patients), b and c (8 each): whichever is withheld, its view is too."""
    words = ["a"] * 4 + ["b"] * 16 + ["c"] * 16
    clips = tuple(replace(c, label=word) for c, word in zip(manifest.clips, words, strict=True))
    labels = {"a": ("PSAX",), "b": ("A2C",), "c": ("A4C", "A2C")}
    sheet = describe(replace(manifest, clips=clips, labels=labels), [PLAIN] * len(clips), minimum=5)
    hidden = {label for label, row in sheet["labels"].items() if row["clips"] is None}
    assert hidden == {"a", "b"}
    assert sheet["views"]["PSAX"]["patients"] == "<5"
    assert sheet["views"]["A2C"]["patients"] == WITHHELD
    assert sheet["views"]["A4C"]["patients"] == 8


def test_clips_that_wait_are_counted_and_hidden_where_few(manifest: DatasetManifest) -> None:
    acquisitions = [PLAIN] * len(manifest.clips)
    for num_patients, clips in ((0, 0), (4, None), (5, 10)):
        waiting = clips_of("w", num_patients)
        sheet = describe(manifest, acquisitions, minimum=5, waiting=waiting)
        assert sheet["waiting_for_review"]["clips"] == clips


def test_no_key_of_a_patient_or_clip_stands_in_the_sheet(manifest: DatasetManifest) -> None:
    text = json.dumps(describe(manifest, [PLAIN] * len(manifest.clips), minimum=5))
    assert not any(clip.patient in text or clip.key in text for clip in manifest.clips)


def test_a_label_taken_with_another_picture_size_is_a_possible_shortcut(
    manifest: DatasetManifest,
) -> None:
    taken = [
        replace(PLAIN, size="36x64") if clip.label == "2CH" else PLAIN for clip in manifest.clips
    ]
    found = describe(manifest, taken, minimum=5)["possible_shortcuts"]
    assert [(one["label"], one["fact"], one["value"]) for one in found] == [
        ("2CH", "picture size", "36x64"),
        ("4CH", "picture size", "48x64"),
    ]


def test_clips_without_a_label_are_counted_and_not_judged(manifest: DatasetManifest) -> None:
    clips = tuple(replace(c, label="" if c.label == "2CH" else c.label) for c in manifest.clips)
    sheet = describe(replace(manifest, clips=clips), [PLAIN] * len(clips), minimum=5)
    assert sheet["labels"][""]["clips"] == 18
    assert sheet["labels"]["2CH"]["patients"] == 0


def test_many_sizes_are_told_in_a_few_rows(manifest: DatasetManifest) -> None:
    taken = [replace(PLAIN, size=f"{place}x64") for place in range(len(manifest.clips))]
    sizes = describe(manifest, taken, minimum=1)["picture_sizes"]
    assert len(sizes) == 13
    assert sizes["others"]["clips"] == len(taken) - 12


@pytest.mark.parametrize(
    ("mask", "fan", "sector", "shape"),
    [
        (False, None, "none", UNKNOWN),
        (True, None, "outline", UNKNOWN),
        (True, Fan((0, 9), -38, 39, 6, 60), "fan", "80 deg wide, near/far 0.1"),
    ],
)
def test_the_sector_is_told_by_what_was_found(
    striped_site: StripedSite, mask: bool, fan: Fan | None, sector: str, shape: str
) -> None:
    store = striped_site(num_patients=1)
    manifest = store.manifest("demo")
    clip = StoredClip(
        np.zeros((2, 8, 9), np.uint8), np.ones((8, 9), bool) if mask else None, None, None, fan
    )
    for record in manifest.clips:
        save_clip(store.clip_path("demo", record.key), clip)
    assert read_acquisitions(store, manifest, silent)[0] == Acquisition(
        "8x9", 2, None, None, sector, shape
    )
