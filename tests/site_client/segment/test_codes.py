"""Every standard code against the context groups of PS3.16 as pydicom carries them."""

from dataclasses import replace

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as Concept

from shared.echo.mask import STRUCTURES as HOUSE_STRUCTURES
from shared.echo.measurement import Measurement
from shared.echo.ontology import load_ontology
from site_client.segment import codes as ours
from site_client.segment.codes import measurement_code, method_code, private_code, view_code

NUMBER = Measurement("EF", 60.0, "%", "disks (biplane, 20)", ("A4C", "A2C"), (0, 1), ((1, 1),) * 2)


def in_group(concept: Concept, group: int) -> bool:
    known = getattr(codes, f"cid{group}").concepts.values()
    return any(concept == one and concept.meaning == one.meaning for one in known)


@pytest.mark.parametrize(
    ("concept", "group"),
    [
        (ours.ANATOMICAL_STRUCTURE, 7150),
        *((ours.STRUCTURES[name], 7151) for name in ("lv", "la", "rv", "ra", "aorta")),
        (ours.STRUCTURES["myocardium"], 12305),
        (ours.ARTIFICIAL_INTELLIGENCE, 7162),
        (ours.ECHOCARDIOGRAPHY, 12001),
        (ours.REPORT_TITLE, 7021),
        (ours.END_DIASTOLE, 12233),
        (ours.END_SYSTOLE, 12233),
        (ours.AREA, 7471),
        (ours.UPPER, 225),
        (ours.LOWER, 225),
        *((ours._MEASUREMENTS[name], 12202) for name in ("EDV", "ESV", "EF")),
        (ours._MEASUREMENTS["SV"], 12200),
        (ours._MEASUREMENTS["FAC"], 12240),
        (ours._MEASUREMENTS["LV mass"], 12203),
        *((concept, 12309) for concept in (*ours._STRAIN.values(), ours._STRAIN_OF_VIEWS)),
        *((concept, 12227) for concept in ours._METHODS.values()),
    ],
)
def test_a_code_is_that_of_its_context_group(concept: Concept, group: int) -> None:
    assert in_group(concept, group)


@pytest.mark.parametrize(
    "concept", [ours.SEGMENTATION, ours.SOURCE_IMAGE, ours.IMAGE_VIEW, ours.CYCLE_POINT]
)
def test_a_code_of_no_group_is_known_all_the_same(concept: Concept) -> None:
    scheme = getattr(codes, concept.scheme_designator)
    assert any(concept == getattr(scheme, name) for name in dir(scheme))


def test_every_structure_has_a_code() -> None:
    assert set(ours.STRUCTURES) == set(HOUSE_STRUCTURES[1:])


@pytest.mark.parametrize(
    ("views", "value"),
    [
        (("A4C",), "130687"),
        (("A2C-LV",), "130688"),
        (("A3C",), "130689"),
        (("A4C", "A2C"), "130686"),
    ],
)
def test_strain_is_named_by_its_views(views: tuple[str, ...], value: str) -> None:
    number = replace(NUMBER, name="GLS", views=views, frames=(0,) * len(views))
    assert measurement_code(number).value == value


def test_the_area_change_of_a_view_is_an_area_change() -> None:
    assert measurement_code(replace(NUMBER, name="FAC A2C")) == ours._MEASUREMENTS["FAC"]


def test_methods_are_told_apart() -> None:
    words = ("disks (biplane, 20)", "disks (single plane, 20)", "area-length, single plane", "new")
    found = [method_code(replace(NUMBER, method=method)) for method in words]
    assert [code and code.value for code in found] == ["125207", "125208", "125205", None]


def test_what_has_no_code_keeps_its_name() -> None:
    code = measurement_code(replace(NUMBER, name="MAPSE"))
    assert code.scheme_designator == ours.PRIVATE_SCHEME
    assert code.meaning == "Mitral annular plane systolic excursion"
    assert private_code("a") != private_code("b")
    assert len(private_code("a" * 99).value) <= 16


@pytest.mark.parametrize("view", load_ontology().views)
def test_every_view_has_a_code_or_that_of_a_wider_one(view: str) -> None:
    code = view_code(view)
    assert code.value
    assert code.meaning
    assert code.scheme_designator in {"SCT", "DCM", ours.PRIVATE_SCHEME}
