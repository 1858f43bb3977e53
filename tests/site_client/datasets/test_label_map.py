"""A label map says who signed it, nothing contradictory, and never a view by another name."""

from pathlib import Path

import pytest

from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from site_client.datasets.label_map import (
    SiteMap,
    read_site_map,
    require_signed,
    views_of_labels,
)

SIGNED = """\
labels:
  "AP4": A4C
  "SAX": [PSAX-MV, PSAX-PM]
  "bad": []
never_images: [doppler, PSAX-chordae]
folds:
  A5C: AP4
signed:
  by: Dr. Verdichio
  date: 2026-01-31
"""


def read(folder: Path, text: str) -> SiteMap:
    path = folder / "map.yaml"
    path.write_text(text, "utf-8")
    return read_site_map(path)


def code_of(folder: Path, text: str) -> Code:
    with pytest.raises(EchoFedError) as caught:
        read(folder, text)
    return caught.value.code


def test_a_signed_map_tells_labels_record_and_hash_and_not_who(tmp_path: Path) -> None:
    found = read(tmp_path, SIGNED)
    assert found.is_signed
    assert found.sha256 == sha256_hex(SIGNED.encode())
    assert found.label_map.views_of("SAX") == {"PSAX-MV", "PSAX-PM"}
    assert found.label_map.never_images == {"doppler", "PSAX-chordae"}
    assert found.label_map.folds == {"A5C": "AP4"}
    assert "Verdichio" not in repr(found)


def test_labels_alone_are_a_map_that_nobody_signed(tmp_path: Path) -> None:
    found = read(tmp_path, "AP4: A4C\nlabels: [PLAX]\n")
    assert found.label_map.entries == {"AP4": {"A4C"}, "labels": {"PLAX"}}
    assert not found.is_signed


@pytest.mark.parametrize(
    "text",
    [
        "- A4C\n",
        "a: [\n",
        "",
        "AP4:\n",
        "AP4: [1]\n",
        SIGNED.replace("never_images", "never_images_"),
        SIGNED.replace("[doppler, PSAX-chordae]", "doppler"),
        SIGNED.replace("  A5C: AP4", "  - A5C"),
        SIGNED.replace("Dr. Verdichio", ""),
        SIGNED.replace("2026-01-31", "yesterday"),
        SIGNED.replace("  date", "  dated"),
    ],
)
def test_a_map_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    assert code_of(tmp_path, text) is Code.LABEL_MAP_INVALID


def test_real_pictures_need_a_signed_map_or_a_word_that_none_is_needed(tmp_path: Path) -> None:
    signed, unsigned = read(tmp_path, SIGNED), read(tmp_path, SIGNED[: SIGNED.index("signed")])
    require_signed(None, "real", accept_unsigned=False)
    require_signed(signed, "real", accept_unsigned=False)
    require_signed(unsigned, "phantom", accept_unsigned=False)
    require_signed(unsigned, "real", accept_unsigned=True)
    with pytest.raises(EchoFedError) as caught:
        require_signed(unsigned, "real", accept_unsigned=False)
    assert caught.value.code is Code.LABEL_MAP_UNSIGNED


def test_without_a_map_labels_are_ids_and_other_names_are_not_applied() -> None:
    assert views_of_labels(None, ["A4C", "", "PLAX"]) == {"A4C": ("A4C",), "PLAX": ("PLAX",)}
    for label, named in (("4CH", "'A4C'"), ("A4CC", "'A4C'")):
        with pytest.raises(EchoFedError, match=label) as caught:
            views_of_labels(None, [label])
        assert caught.value.code is Code.LABEL_UNMAPPED
        assert named in caught.value.hint
        assert "echofed-site labels" in caught.value.hint


def test_an_unknown_label_names_the_nearest(tmp_path: Path) -> None:
    label_map = read(tmp_path, "apical four: A4C\nSAX: [PSAX-MV, PSAX-PM]\n").label_map
    assert views_of_labels(label_map, ["SAX"]) == {"SAX": ("PSAX-MV", "PSAX-PM")}
    with pytest.raises(EchoFedError, match="apical fuor") as caught:
        views_of_labels(label_map, ["apical fuor"])
    assert caught.value.code is Code.LABEL_UNMAPPED
    assert "'apical four'" in caught.value.hint
