"""The command as a user types it: from the scanner's files to pictures, numbers and the report."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from shared.testing.leaks import find_words
from site_client.cli import build_app
from site_client.segment.write import FILES
from site_client.store import SiteStore

PLANTED = ["Verdichio", "MRN7654321", "19440203", "north", "site.yaml"]
RUNNER = CliRunner()


def run(config: Path, *words: object) -> Any:
    return RUNNER.invoke(build_app(), ["segment", *map(str, words), "--config", str(config)])


def refusal(config: Path, *words: object) -> EchoFedError:
    error = run(config, *words).exception
    assert isinstance(error, EchoFedError)
    return error


def entries(config: Path) -> list[Any]:
    return [
        entry
        for entry in Ledger(config.parent / "ledger.sqlite").entries()
        if entry.kind == "segmented"
    ]


@pytest.fixture(scope="module")
def biplane(
    trained_site: Path, two_views: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("examination")
    words = ("--view", "A4C", "--view", "A2C", "--out", out, "--json")
    result = run(trained_site, *two_views, *words)
    assert result.exit_code == 0, (result.output, result.exception)
    return out, json.loads(result.stdout)


def test_two_files_become_one_biplane_examination(biplane: tuple[Path, dict[str, Any]]) -> None:
    out, document = biplane
    assert document["measurements"]["EDV"]["views"] == ["A4C", "A2C"]
    assert document["measurements"]["EDV"]["value"] > 0
    assert [one["view"] for one in document["cines"]] == ["A4C", "A2C"]
    expected = {f"{view}/{name}" for view in ("A4C", "A2C") for name in FILES.values()}
    assert set(document["files"]) == expected
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.*")} == expected
    findings = json.loads((out / "A2C" / "findings.json").read_text())
    assert [frame["frame"] for frame in findings["frames"]] == list(range(8))
    assert dcmread(out / "A4C" / "segmentation.dcm").Modality == "SEG"
    assert dcmread(out / "A4C" / "report.dcm").Modality == "SR"


def test_nothing_but_the_clinical_objects_names_the_patient(
    biplane: tuple[Path, dict[str, Any]], trained_site: Path, two_views: tuple[Path, Path]
) -> None:
    out, document = biplane
    secret = [*PLANTED[:3], dcmread(two_views[0]).SOPInstanceUID]
    for name in ("overlay.png", "overlay.mp4", "findings.json"):
        assert not find_words((out / "A4C" / name).read_bytes(), secret)
    assert find_words((out / "A4C" / "report.dcm").read_bytes(), secret[:1])
    entry = entries(trained_site)[0]
    for shown in (document, entry.body):
        assert not find_words(json.dumps(shown).encode(), [*secret, "A4C.dcm"])
    assert [cine["frames"] for cine in entry.body["cines"]] == [8, 8]
    assert len(entry.body["cines"][0]["segmenters"]) == 1


def test_a_person_reads_numbers_and_warnings(
    trained_site: Path, two_views: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ("--view", "A4C", "--kinds", "json", "--looks", 5, "--out", tmp_path / "out")
    result = run(trained_site, two_views[0], *words)
    assert result.exit_code == 0, result.exception
    for text in ("EDV", " ml", "single plane", "volumes stand on one view", "findings.json"):
        assert text in result.output
    assert not find_words(result.output.encode(), PLANTED[:3])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["findings.json"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), Code.VIEW_UNKNOWN),
        (("--view", "PLAX"), Code.VIEW_UNKNOWN),
        (("--view", "A4C", "--view", "A2C"), Code.CONFIG_INVALID),
        (("--view", "A4C", "--kinds", "tiff"), Code.CONFIG_INVALID),
        (("--view", "A4C", "--looks", "3"), Code.CONFIG_INVALID),
        (("--view", "A4C", "--segmenter", "nobody"), Code.MODEL_UNKNOWN),
        (("--view", "A4C", "--at", "centre"), Code.CONFIG_INVALID),
    ],
)
def test_a_wish_that_cannot_be_met_has_a_code_and_a_way_out(
    trained_site: Path,
    two_views: tuple[Path, Path],
    tmp_path: Path,
    words: tuple[str, ...],
    code: Code,
) -> None:
    error = refusal(trained_site, two_views[0], "--out", tmp_path / "out", *words)
    assert error.code is code
    assert error.hint
    assert not (tmp_path / "out").exists()


def test_two_files_of_one_view_make_no_biplane(
    trained_site: Path, two_views: tuple[Path, Path]
) -> None:
    words = ("--view", "A4C", "--view", "A4C")
    assert refusal(trained_site, *two_views, *words).code is Code.VIEWS_UNFIT


def test_a_site_without_segmenters_says_where_to_get_one(
    tmp_path: Path, two_views: tuple[Path, Path]
) -> None:
    config = tmp_path / "site.yaml"
    config.write_text("site: bare\n")
    SiteStore(tmp_path).create_key()
    error = refusal(config, two_views[0], "--view", "A4C")
    assert error.code is Code.MODEL_UNKNOWN
    assert "fetch-model" in error.hint
