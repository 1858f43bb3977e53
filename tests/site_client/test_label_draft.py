"""A draft is refused as it stands, and is a valid label map once its lines are taken in."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from site_client.datasets.label_map import read_site_map, views_of_labels
from site_client.label_draft import Proposal, draft_map, find_labels_file, propose_views

SITE_WORDS = "file,label,operator\na,AP4\nb,AP4\nc,sax-mid\nd,4 chmber view\ne,\nf,Zebra 7\n"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(SITE_WORDS)
    return path


def confirm(text: str) -> str:
    """Take the ``#`` before every label away, as somebody who agrees with all would."""
    return "\n".join(line[1:] if line.startswith('#  "') else line for line in text.splitlines())


def code_of(path: Path) -> Code:
    with pytest.raises(EchoFedError) as caught:
        views_of_labels(read_site_map(path).label_map, ["AP4", "sax-mid", "4 chmber view"])
    return caught.value.code


def test_aliases_are_proposed_and_others_get_the_nearest_names_only(words: Path) -> None:
    proposals = {proposal.label: proposal for proposal in propose_views(words)}
    assert proposals["AP4"] == Proposal("AP4", 2, "A4C", ())
    assert proposals["sax-mid"].view == "PSAX-PM"
    assert proposals["4 chmber view"].view is None
    assert "A4C" in proposals["4 chmber view"].nearest
    assert proposals["Zebra 7"] == Proposal("Zebra 7", 1, None, ())
    assert next(iter(proposals)) == "AP4"


def test_nothing_of_a_draft_is_in_force(words: Path, tmp_path: Path) -> None:
    draft = tmp_path / "labels.yaml"
    draft.write_text(draft_map(propose_views(words)))
    sections = yaml.safe_load(draft.read_text())
    assert [name for name, said in sections.items() if said] == ["signed"]
    assert code_of(draft) is Code.LABEL_MAP_INVALID


def test_a_confirmed_draft_is_the_label_map(words: Path, tmp_path: Path) -> None:
    text = draft_map(propose_views(words))
    for label, view in (("4 chmber view", "[A4C, A5C]"), ("Zebra 7", "[]")):
        text = text.replace(f'"{label}": write-a-view-here', f'"{label}": {view}')
    signed = tmp_path / "labels.yaml"
    signed.write_text(confirm(text))
    found = read_site_map(signed)
    assert not found.is_signed
    assert views_of_labels(found.label_map, found.label_map.entries) == {
        "AP4": ("A4C",), "sax-mid": ("PSAX-PM",), "4 chmber view": ("A4C", "A5C"), "Zebra 7": (),
    }  # fmt: skip


def test_the_record_of_other_views_and_the_signature_are_filled_in(
    words: Path, tmp_path: Path
) -> None:
    text = confirm(draft_map([Proposal("AP4", 2, "A4C", ())]))
    text = text.replace("#  - SSN-long ", "  - SSN-long ").replace("folds:", "folds:\n  SC-4C: AP4")
    signed = tmp_path / "labels.yaml"
    signed.write_text(text.replace("  by:", "  by: Ada").replace("  date:", "  date: 2026-01-31"))
    found = read_site_map(signed)
    assert found.is_signed
    assert found.label_map.never_images == {"SSN-long"}
    assert found.label_map.folds == {"SC-4C": "AP4"}


def test_a_line_taken_in_without_a_view_is_refused(words: Path, tmp_path: Path) -> None:
    signed = tmp_path / "labels.yaml"
    signed.write_text(confirm(draft_map(propose_views(words))))
    assert code_of(signed) is Code.VIEW_UNKNOWN


def test_a_label_left_unconfirmed_is_refused(words: Path, tmp_path: Path) -> None:
    signed = tmp_path / "labels.yaml"
    signed.write_text(draft_map(propose_views(words)).replace('#  "AP4"', '  "AP4"'))
    assert code_of(signed) is Code.LABEL_UNMAPPED


@settings(max_examples=25)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), min_size=1, max_size=40))
def test_any_word_of_a_site_survives_the_draft(label: str) -> None:
    text = draft_map([Proposal(label, 1, "A4C", ())])
    assert yaml.safe_load(text)["labels"] is None
    assert yaml.safe_load(confirm(text))["labels"] == {label: "A4C"}


def test_the_views_that_no_proposal_covers_are_listed_for_the_record() -> None:
    text = draft_map([Proposal("x", 1, "apical", ()), Proposal("y", 1, None, ("PLAX",))])
    leaves = load_ontology().leaves("echo")
    listed = [leaf for leaf in leaves if f"\n#  - {leaf}  #" in text]
    assert "PLAX-LV" in listed
    assert not set(listed) & set(load_ontology().leaves("apical"))


def test_a_folder_s_labels_file_is_found_by_its_first_line(words: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert find_labels_file(tmp_path) == words
    (tmp_path / "more.csv").write_text('"file","label"\n')
    with pytest.raises(EchoFedError) as caught:
        find_labels_file(tmp_path)
    assert caught.value.code is Code.CONFIG_INVALID
    words.unlink()
    (tmp_path / "more.csv").unlink()
    with pytest.raises(EchoFedError) as caught:
        find_labels_file(tmp_path)
    assert caught.value.code is Code.CONFIG_MISSING


def test_a_file_without_any_label_says_so(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("file,label\na,\n")
    with pytest.raises(EchoFedError) as caught:
        propose_views(path)
    assert caught.value.code is Code.FRAMES_MISSING
