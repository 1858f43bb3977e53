"""The ontology holds what the literature names, and label maps never guess."""

import pytest

from shared.echo.ontology import build_label_map, load_ontology, map_by_alias
from shared.errors import Code, EchoFedError

TTE47 = [
    "a2ch-full",
    "a2ch-la",
    "a2ch-lv",
    "a3ch-full",
    "a3ch-la",
    "a3ch-lv",
    "a3ch-outflow",
    "a4ch-full",
    "a4ch-la",
    "a4ch-lv",
    "a4ch-ias",
    "a4ch-ra",
    "a4ch-rv",
    "a5ch-full",
    "a5ch-outflow",
    "apex",
    "plax-full-out",
    "plax-full-lv",
    "plax-full-la",
    "plax-full-rv-ao",
    "plax-full-mv",
    "plax-valves-av",
    "plax-valves-mv",
    "plax-tv",
    "psax-all",
    "psax-av",
    "psax-tv",
    "psax-pv",
    "psax-lv-base",
    "psax-lv-mid",
    "psax-lv-apex",
    "subcostal-heart",
    "subcostal-ivc",
    "suprasternal",
    "mmode-a4ch-rv",
    "mmode-ivc",
    "mmode-plax-av",
    "mmode-plax-lv",
    "mmode-plax-mitral",
    "doppler-ao-descending",
    "doppler-av",
    "doppler-mv",
    "doppler-pv",
    "doppler-tv",
    "doppler-tissue-lateral",
    "doppler-tissue-rv",
    "doppler-tissue-septal",
]
PAPER_15 = [
    "contrast-A2C",
    "contrast-A3C",
    "contrast-A4C",
    "contrast-PLAX",
    "noncontrast-A2C",
    "noncontrast-A3C",
    "noncontrast-A4C",
    "noncontrast-A5C",
    "noncontrast-PLAX",
    "noncontrast-PLAX-AV",
    "noncontrast-PSAX-AV",
    "noncontrast-PSAX-PM",
    "A4C-RV",
    "noncontrast-SC",
    "noncontrast-SC-IVC",
]


@pytest.mark.parametrize(("names", "num"), [(TTE47, 47), (PAPER_15, 15)])
def test_published_vocabularies_are_there_and_stay_apart(names: list[str], num: int) -> None:
    found = {load_ontology().find(name).id for name in names}
    assert len(names) == len(found) == num


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("AP4", "A4C"),
        ("4ch", "A4C"),
        ("Apical 4C 2D", "A4C"),
        ("ALAX", "A3C"),
        ("psax_pap", "PSAX-PM"),
        ("SC4C", "SC-4C"),
        ("SSN", "SSN"),
        ("not sure", "not-sure"),
    ],
)
def test_aliases_fold_case_blanks_and_dashes(text: str, view: str) -> None:
    assert load_ontology().find(text).id == view


def test_facets_are_inherited_and_overridden() -> None:
    views = load_ontology().views
    assert views["A4C-LV"].facets.plane == "A4C"
    assert views["A4C-LV"].facets.focus == "LV"
    assert views["A4C-LV"].facets.window == "apical"
    assert views["A4C-contrast"].facets.contrast == "LVO"
    assert views["mmode-PLAX-LV"].facets.mode == "M-mode"
    assert views["A4C"].code == "SCT 399214001"


def test_unknown_views_and_labels_name_the_nearest() -> None:
    with pytest.raises(EchoFedError, match="A4D") as caught:
        load_ontology().find("A4D")
    assert caught.value.code is Code.VIEW_UNKNOWN
    assert "nearest" in caught.value.hint
    label_map = build_label_map({"four chamber": "A4C", "axis": ["PLAX", "PSAX"]})
    with pytest.raises(EchoFedError, match="four chambers") as caught:
        label_map.views_of("four chambers")
    assert caught.value.code is Code.LABEL_UNMAPPED
    assert "'four chamber'" in caught.value.hint


def test_a_label_may_stand_for_many_views_or_for_none() -> None:
    label_map = build_label_map({"short axis": ["PSAX-MV", "PSAX-PM"], "bad": []})
    assert label_map.views_of("short axis") == {"PSAX-MV", "PSAX-PM"}
    assert label_map.views_of("bad") == frozenset()
    assert label_map.views() == ("PSAX-MV", "PSAX-PM")


def test_only_what_a_site_would_have_labelled_is_annotated() -> None:
    label_map = build_label_map(
        {"SAX": "PSAX", "AP4": "A4C-LV", "bad": []},
        never_images=["PSAX-chordae", "doppler"],
        folds={"A5C": "AP4"},
    )
    psax = set(load_ontology().leaves("PSAX"))
    assert label_map.annotated() == (psax - {"PSAX-chordae"}) | {"A4C-LV"}


@pytest.mark.parametrize(
    ("never_images", "folds", "named"),
    [
        (["parasternal"], {}, "'LAX'"),
        ([], {"A5C": "5CH"}, "'5CH'"),
        (["apical"], {"A5C": "LAX"}, "A5C"),
        ([], {"PLAX-LV": "LAX"}, "PLAX-LV"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(
    never_images: list[str], folds: dict[str, str], named: str
) -> None:
    with pytest.raises(EchoFedError, match=named) as caught:
        build_label_map({"LAX": "PLAX"}, never_images=never_images, folds=folds)
    assert caught.value.code is Code.LABEL_MAP_INVALID


def test_covered_is_monotone_and_includes_the_node_itself() -> None:
    ontology = load_ontology()
    union = ontology.order(["PSAX-AV", "A4C", "PSAX", "PSAX-PM"])
    assert ontology.covered(["PSAX"], union) == {"PSAX", "PSAX-AV", "PSAX-PM"}
    assert ontology.covered(["PSAX-AV"], union) == {"PSAX-AV"}
    assert ontology.covered(["PSAX-AV"], union) <= ontology.covered(["PSAX"], union)


def test_union_order_does_not_depend_on_who_came_first() -> None:
    ontology = load_ontology()
    assert ontology.order(["PLAX", "A4C"]) == ontology.order(["A4C", "PLAX", "AP4"])


def test_every_view_has_a_root_and_every_alias_one_view() -> None:
    ontology = load_ontology()
    for view in ontology.views.values():
        assert not view.parent or view.parent in ontology.views
        for alias in view.aliases:
            assert ontology.find(alias) is view
    assert map_by_alias(["AP4", "2CH"]).views() == ("A4C", "A2C")
