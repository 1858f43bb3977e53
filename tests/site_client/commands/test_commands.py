"""The commands of a site: made, filled and shown, each with its exit code and one JSON document."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from shared.errors import Code, EchoFedError
from shared.files import write_json
from shared.ledger import Ledger
from shared.settings import load_settings
from shared.testing.dicom import build_dicom, build_region, speckled_fan
from site_client.cli import build_app
from site_client.policy import load_policy
from site_client.settings import SiteSettings

RUNNER = CliRunner()


def run(*arguments: object) -> Result:
    return RUNNER.invoke(build_app(), [str(argument) for argument in arguments])


def document_of(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def code_of(*arguments: object) -> Code:
    error = run(*arguments).exception
    assert isinstance(error, EchoFedError)
    return error.code


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "north"
    document_of("init", "--standalone", folder)
    return folder / "site.yaml"


@pytest.fixture
def clips(tmp_path: Path, seed: int) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    for number in range(3):
        data = build_dicom(
            speckled_fan((120, 160), 3, seed + number),
            elements={**region, "PatientID": f"MRN{number}"},
        )
        (folder / f"{number}.dcm").write_bytes(data)
    (folder / "cut.dcm").write_bytes(b"cut")
    return folder


def test_a_new_site_denies_everything_and_has_a_ledger(site: Path) -> None:
    settings = load_settings(SiteSettings, site)
    assert settings.site == "north"
    assert settings.centre is None
    assert load_policy(site.parent / "policy.yaml").datasets == {}
    assert [entry.kind for entry in Ledger(site.parent / "ledger.sqlite").entries()] == [
        "site.created"
    ]


def test_a_site_is_made_once(site: Path) -> None:
    before = site.read_bytes()
    assert code_of("init", "--standalone", site.parent) is Code.ALREADY_EXISTS
    assert site.read_bytes() == before


def test_settings_given_at_init_stay(tmp_path: Path) -> None:
    folder = tmp_path / "south"
    run("init", "--standalone", folder, "--site", "s-2", "--set", "ingest.keep_pixels=region")
    settings = load_settings(SiteSettings, folder / "site.yaml")
    assert settings.site == "s-2"
    assert settings.ingest.keep_pixels == "region"


def test_init_wants_a_kit_or_a_folder(tmp_path: Path) -> None:
    assert code_of("init") is Code.CONFIG_INVALID
    assert code_of("init", tmp_path / "k", "--standalone", tmp_path) is Code.CONFIG_INVALID
    assert code_of("init", tmp_path / "missing.kit") is Code.CONFIG_MISSING


def test_a_kit_is_answered_with_a_request(tmp_path: Path) -> None:
    kit = tmp_path / "west.kit"
    content = {
        "format": 1,
        "federation": "demo",
        "site": "west",
        "address": "localhost:9092",
        "ca": "-----BEGIN CERTIFICATE-----",
        "token": "one-time",
        "expires": "2999-01-01T00:00:00+00:00",
    }
    write_json(kit, content)
    config = tmp_path / "west" / "site.yaml"
    done = document_of("init", kit, "--config", config)
    assert json.loads(Path(done["request"]).read_text())["site"] == "west"
    settings = load_settings(SiteSettings, config)
    assert settings.centre is not None
    assert settings.centre.address == "localhost:9092"
    stored = b"".join(path.read_bytes() for path in config.parent.rglob("*") if path.is_file())
    assert b"one-time" not in stored
    run("init", kit, "--config", config)
    assert load_settings(SiteSettings, config) == settings
    write_json(kit, content | {"services": "localhost:8445"})
    run("init", kit, "--config", config)
    renewed = load_settings(SiteSettings, config).centre
    assert renewed == settings.centre.model_copy(update={"services": "localhost:8445"})


def test_a_public_set_needs_no_labels(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "camus" / "images"
    folder.mkdir(parents=True)
    for number in (1, 201):
        picture = Image.fromarray(speckled_fan((120, 160), 1, number)[0])
        picture.save(folder / f"patient{number:04d}_4CH_ED.png")
    done = document_of("ingest", folder.parent, "--layout", "camus", "--config", site)
    assert done["labels"] == {"4CH": 2}
    assert done["clips"]["test"] >= 1
    assert "CC BY-NC-SA" in done["licence"]
    assert code_of(
        "ingest", folder.parent, "--layout", "camus", "--source", "images", "--config", site
    ) is (Code.CONFIG_INVALID)


def test_ingest_lists_what_it_dropped_and_status_shows_the_rest(site: Path, clips: Path) -> None:
    (clips / "labels.csv").write_text("file,label\n0.dcm,A4C\n1.dcm,A2C\n2.dcm,A4C\n")
    done = document_of(
        "ingest", clips, "--dataset", "demo", "--labels", clips / "labels.csv", "--config", site
    )
    assert done["ingested"] == 3
    assert [drop["code"] for drop in done["dropped_files"]] == ["DATA_UNREADABLE"]
    assert done["labels"] == {"A2C": 1, "A4C": 2}
    shown = document_of("status", "--config", site)
    assert [dataset["dataset"] for dataset in shown["datasets"]] == ["demo"]
    assert shown["ledger_entries"] == 2 + 3  # created, ingested, and a receipt for every study
    assert "demo" in run("status", "--config", site).stdout


def test_a_misspelt_setting_is_refused_with_the_nearest(site: Path, clips: Path) -> None:
    result = run("ingest", clips, "--config", site, "--set", "ingest.keep_pixel=region")
    assert isinstance(result.exception, EchoFedError)
    assert result.exception.code is Code.CONFIG_UNKNOWN_KEY
    assert "'keep_pixels'" in result.exception.hint


def test_without_a_site_every_command_says_so(tmp_path: Path, clips: Path) -> None:
    nowhere = tmp_path / "site.yaml"
    assert code_of("status", "--config", nowhere) is Code.CONFIG_MISSING
    assert code_of("ingest", clips, "--config", nowhere) is Code.CONFIG_MISSING


def test_the_process_ends_with_the_error_s_number(tmp_path: Path, site: Path) -> None:
    (tmp_path / "empty").mkdir()
    program = "from site_client.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "ingest", tmp_path / "empty", "--config", site],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == Code.NOTHING_INGESTED
    assert ended.stdout == ""
    assert "way out" in ended.stderr


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    program = (
        "import sys; from site_client.cli import build_app; build_app();"
        "print([m for m in ('torch', 'mlflow', 'flwr', 'timm') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"
