"""``echofed-site review``: listed, drawn and decided; ledger and dataset have the decision."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from shared.phantom.anatomy import draw_heart
from shared.phantom.scanner import SCANNERS, render_clip
from shared.testing.burn import burn_word
from shared.testing.dicom import build_dicom
from site_client.cli import build_app

RUNNER = CliRunner()
SIZE = (120, 160)


def document_of(*arguments: object) -> dict[str, Any]:
    result = RUNNER.invoke(build_app(), [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def code_of(*arguments: object) -> Code:
    error = RUNNER.invoke(build_app(), [*map(str, arguments)]).exception
    assert isinstance(error, EchoFedError)
    return error.code


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips, one with a word."""
    folder = tmp_path / "clips"
    folder.mkdir()
    generator = np.random.default_rng(4)
    for number, scanner in enumerate(("aurora", "delta")):
        clip = render_clip(
            draw_heart(generator), "A4C", SCANNERS[scanner],
            num_frames=2, size_HW=SIZE, rng=generator,
        )  # fmt: skip
        burnt = burn_word(clip.pixels_THW, clip.sector.mask_HW, generator, word="VERDICHIO")
        assert burnt is not None
        pixels = burnt.pixels_THW if number else clip.pixels_THW
        data = build_dicom(pixels, elements={"PatientID": f"MRN{number}"})
        (folder / f"{number}.dcm").write_bytes(data)
    return folder


@pytest.fixture
def config(tmp_path: Path, clips: Path) -> Path:
    document_of("init", "--standalone", tmp_path / "north")
    config = tmp_path / "north" / "site.yaml"
    done = document_of("ingest", clips, "--dataset", "demo", "--config", config)
    assert (done["ingested"], done["held"]) == (1, 1)
    return config


def test_a_held_clip_is_listed_drawn_and_decided(config: Path, clips: Path, tmp_path: Path) -> None:
    (listed,) = document_of("review", "--config", config)["clips"]
    assert listed["dataset"] == "demo"
    assert listed["decision"] is None
    assert "VERDICHIO" not in json.dumps(listed)
    assert listed["key"] in RUNNER.invoke(build_app(), ["review", "--config", str(config)]).stdout
    picture = tmp_path / "held.png"
    document_of("review", listed["key"], "--out", picture, "--config", config)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert document_of("status", "--config", config)["waiting_for_review"] == 1
    waiting = document_of("describe", "--config", config)["waiting_for_review"]
    assert waiting == {"patients": "<5", "clips": None, "frames": None}
    decided = document_of("review", listed["key"][:8], "--blank", "--config", config)
    assert decided["decision"] == "blank"
    *_, entry = Ledger(config.parent / "ledger.sqlite").entries()
    assert entry.kind == "clip.reviewed"
    assert entry.body == {"clip": listed["key"], "dataset": "demo", "boxes": 1, "decision": "blank"}
    assert document_of("status", "--config", config)["waiting_for_review"] == 0
    again = document_of("ingest", clips, "--dataset", "demo", "--config", config)
    assert (again["ingested"], again["held"]) == (2, 0)
    gone = ["review", listed["key"], "--out", picture, "--config", config]
    assert code_of(*gone) is Code.FRAMES_MISSING


def test_contradictions_and_unknown_keys_are_refused(config: Path) -> None:
    key = document_of("review", "--config", config)["clips"][0]["key"]
    assert code_of("review", key, "--keep", "--drop", "--config", config) is Code.CONFIG_INVALID
    assert code_of("review", "--keep", "--config", config) is Code.CONFIG_INVALID
    assert code_of("review", "0" * 32, "--keep", "--config", config) is Code.NAME_UNKNOWN
    assert document_of("review", key, "--config", config)["decision"] is None
