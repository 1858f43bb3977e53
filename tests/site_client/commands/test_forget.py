"""``echofed-site forget``: by the hospital's own id, which appears nowhere afterwards."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from shared.errors import Code, EchoFedError
from shared.testing.dicom import PLANTED, build_dicom, build_region, speckled_fan
from site_client.cli import build_app
from site_client.store import SiteStore

RUNNER = CliRunner()


def run(*words: object, typed: str | None = None) -> Result:
    return RUNNER.invoke(build_app(), [str(word) for word in words], input=typed)


def code_of(result: Result) -> Code:
    assert isinstance(result.exception, EchoFedError)
    assert PLANTED not in str(result.exception)
    return result.exception.code


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a site that ingested two patients, one of whose files name an issuer."""
    folder = tmp_path_factory.mktemp("forget")
    files = folder / "files"
    files.mkdir()
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    for number in range(4):
        named = {"PatientID": f"{PLANTED}{number // 2}"}
        named |= {"IssuerOfPatientID": "ward"} if number // 2 else {}
        data = build_dicom(speckled_fan((120, 160), 2, number), elements={**region, **named})
        (files / f"{number}.dcm").write_bytes(data)
    run("init", "--standalone", folder / "north")
    config = folder / "north" / "site.yaml"
    assert run("ingest", files, "--dataset", "demo", "--config", config).exit_code == 0
    return config


@pytest.fixture
def config(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original.parent, tmp_path / "north")
    return tmp_path / "north" / "site.yaml"


def test_the_id_is_asked_for_and_stands_nowhere(config: Path) -> None:
    said = run("forget", "--config", config, "--json", typed=f"{PLANTED}0\n")
    assert said.exit_code == 0, said.output
    (one,) = json.loads(said.stdout)["forgotten"]
    assert (one["dataset"], one["clips"]) == ("demo", 2)
    assert SiteStore(config.parent).manifest("demo").num_patients() == 1
    assert PLANTED not in said.output
    everything = b"".join(p.read_bytes() for p in config.parent.rglob("*") if p.is_file())
    assert PLANTED.encode() not in everything
    again = run("forget", "--config", config, typed=f"{PLANTED}0\n")
    assert code_of(again) is Code.PATIENT_UNKNOWN


def test_an_issuer_in_the_files_must_be_given(config: Path, tmp_path: Path) -> None:
    id_file = tmp_path / "id"
    id_file.write_text(f"{PLANTED}1\n")
    words = ("forget", "--dataset", "demo", "--id-file", id_file, "--config", config)
    assert code_of(run(*words)) is Code.PATIENT_UNKNOWN
    said = run(*words, "--issuer", "ward")
    assert said.exit_code == 0, said.output
    assert "until the next increment" in " ".join(said.stdout.split())


def test_a_pseudonym_takes_the_place_of_the_id(config: Path) -> None:
    key = SiteStore(config.parent).manifest("demo").clips[0].patient
    assert run("forget", "--pseudonym", key, "--config", config).exit_code == 0
    mixed = run("forget", "--pseudonym", key, "--issuer", "ward", "--config", config)
    assert code_of(mixed) is Code.CONFIG_INVALID


def test_a_missing_id_file_and_an_unknown_dataset_are_told(config: Path, tmp_path: Path) -> None:
    missing = run("forget", "--id-file", tmp_path / PLANTED, "--config", config)
    assert code_of(missing) is Code.CONFIG_MISSING
    unknown = run("forget", "--dataset", "dema", "--config", config, typed="1\n")
    assert code_of(unknown) is Code.DATASET_UNKNOWN
