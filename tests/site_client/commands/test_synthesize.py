"""``synthesize`` makes what ``train`` takes and nothing judges by, from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydicom import dcmread
from typer.testing import CliRunner

from shared.echo.synthesizer import SynthesizerCard, save_synthesizer
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from shared.testing.synthesizers import untrained_synthesizer
from site_client.cli import build_app
from site_client.store import SiteStore

RUNNER = CliRunner()
TINY = {
    "width": 8, "depth": 2, "patch": 1, "image_size": 32, "epochs": 1, "batch_size": 4,
    "threads": 1,
}  # fmt: skip


def run(site: Path, *arguments: object) -> Any:
    return RUNNER.invoke(build_app(), [*map(str, arguments), "--config", str(site / "site.yaml")])


def document_of(site: Path, *arguments: object) -> dict[str, Any]:
    result = run(site, *arguments, "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def code_of(site: Path, *arguments: object) -> Code:
    error = run(site, *arguments).exception
    assert isinstance(error, EchoFedError)
    return error.code


@pytest.fixture(scope="module")
def card() -> tuple[SynthesizerCard, bytes]:
    return untrained_synthesizer(1, release_threshold=2.0)


@pytest.fixture
def site(tmp_path: Path, card: tuple[SynthesizerCard, bytes]) -> Path:
    folder = tmp_path / "north"
    result = RUNNER.invoke(build_app(), ["init", "--standalone", str(folder)])
    assert result.exit_code == 0, result.output
    store = SiteStore(folder)
    save_synthesizer(store.synthesizer_folder(card[0].id), *card)
    store.set_alias("synthesis", card[0].id)
    return folder


DRAW = ("synthesize", "--maps", "phantom", "--view", "A4C", "--dataset", "drawn", "--at", "here")


def test_a_dataset_is_drawn_looked_at_learnt_from_and_not_judged_by(
    site: Path, card: tuple[SynthesizerCard, bytes], tmp_path: Path
) -> None:
    told = document_of(site, *DRAW, "--num", 12, "--steps", 1, "--dicom", tmp_path / "dicom")
    assert (told["synthesizer"], told["sha256"]) == (card[0].id, card[0].weights_sha256)
    assert (told["drawn"], told["refused"], told["known"]) == (12, {}, 0)
    assert told["clips"]["train"] + told["clips"]["val"] == 12
    with Image.open(told["preview"]) as sheet:
        assert sheet.size[0] > sheet.size[1] > 300
    files = list((tmp_path / "dicom").iterdir())
    assert len(files) == told["dicom_files"] == 12
    assert {dcmread(file).SyntheticData for file in files} == {"YES"}
    (entry,) = [e for e in Ledger(site / "ledger.sqlite").entries() if e.kind == "synthesized"]
    assert entry.body["content_sha256"] == told["content_sha256"]
    (line,) = document_of(site, "status")["datasets"]
    assert (line["dataset"], line["origin"]) == ("drawn", "synthetic")
    settings = [f"--set=segmenter.{name}={value}" for name, value in TINY.items()]
    trained = document_of(site, "train", "--set=task=segmentation", "--dataset", "drawn", *settings)
    segmenter = json.loads(next((site / "segmenters").glob("*/card.json")).read_text())
    assert segmenter["id"] in json.dumps(trained)
    assert segmenter["origin"] == "synthetic"
    assert code_of(site, "evaluate", "--expert", "x", "--dataset", "drawn") is Code.ORIGIN_UNFIT


def test_drawing_again_changes_nothing(site: Path) -> None:
    first = document_of(site, *DRAW, "--num", 4, "--steps", 1)
    again = document_of(site, *DRAW, "--num", 4, "--steps", 1)
    assert (first["changed"], again["changed"], again["known"]) == (True, False, 4)
    assert first["content_sha256"] == again["content_sha256"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--model", "nobody"), Code.MODEL_UNKNOWN),
        (("--steps", "0"), Code.CONFIG_INVALID),
        (("--view", "A99"), Code.VIEW_UNKNOWN),
        (("--view", "PLAX"), Code.VIEW_UNKNOWN),
        (("--maps", "nowhere"), Code.DATASET_UNKNOWN),
        (("--guidance", "inf"), Code.CONFIG_INVALID),
        (("--at", "site"), Code.CONFIG_MISSING),
        (("--at", "centre"), Code.CONFIG_INVALID),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_leaves_no_dataset(
    site: Path, options: tuple[str, ...], code: Code
) -> None:
    assert code_of(site, *DRAW, *options) is code
    assert SiteStore(site).datasets() == ()
    assert not [e for e in Ledger(site / "ledger.sqlite").entries() if e.kind == "synthesized"]
