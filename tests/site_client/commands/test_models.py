"""From files to a verdict by the commands alone: train, evaluate, predict."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shared.echo.expert import load_expert
from shared.echo.features import read_export
from shared.echo.statistics import read_statistics
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from shared.testing.dicom import PLANTED, build_dicom, build_region, speckled_fan
from site_client.cli import build_app
from site_client.policy import DatasetPolicy, Policy, save_policy
from site_client.store import SiteStore

RUNNER = CliRunner()
SMALL = {
    "expert.backbone": "test_resnet", "expert.image_size": 32, "expert.epochs": 1,
    "expert.batch_size": 8, "expert.threads": 1, "extract.threads": 1,
    "ingest.val_fraction": 0.25, "ingest.test_fraction": 0.25,
}  # fmt: skip


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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    rows = ["file,label"]
    for number in range(16):
        pixels = speckled_fan((120, 160), 2, number)
        if number % 2:
            pixels[:, 50:70] = pixels[:, 50:70] // 4
        elements = {**region, "PatientID": f"MRN{number // 2}"}
        (folder / f"{number}.dcm").write_bytes(build_dicom(pixels, elements=elements))
        rows.append(f"{number}.dcm,{'A4C' if number % 2 else 'A2C'}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, files: Path) -> tuple[Path, str]:
    """Settings file of a site with a dataset and an expert, and the expert's id."""
    folder = tmp_path_factory.mktemp("site") / "north"
    changes = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    document_of("init", "--standalone", folder, *changes)
    config = folder / "site.yaml"
    labels = ["--labels", files / "labels.csv", "--dataset", "demo"]
    document_of("ingest", files, *labels, "--config", config)
    return config, document_of("train", "--config", config)["expert"]


def test_training_is_in_the_ledger(site: tuple[Path, str]) -> None:
    config, expert = site
    entries = Ledger(config.parent / "ledger.sqlite").entries()
    trained = [entry.body for entry in entries if entry.kind == "expert.trained"]
    assert [body["expert"] for body in trained] == [expert]


def test_evaluation_counts_the_test_frames(site: tuple[Path, str]) -> None:
    config, expert = site
    document = document_of("evaluate", "--expert", expert, "--config", config)
    manifest = SiteStore(config.parent).manifest("demo")
    scores = document["scores"]["test"]
    assert scores["num_frames"] == sum(clip.num_frames for clip in manifest.of_split("test"))
    assert set(scores["clips"]["recall"]) == {"A2C", "A4C"}


def test_prediction_is_one_document_and_a_picture_without_identity(
    site: tuple[Path, str], files: Path, tmp_path: Path
) -> None:
    config, expert = site
    picture = tmp_path / "verdict.png"
    arguments = ["predict", files / "3.dcm", "--expert", expert, "--out", picture]
    document = document_of(*arguments, "--config", config)
    assert document["view"] in ("A4C", "A2C")
    assert sum(document["probabilities"].values()) == pytest.approx(1)
    assert document["experts"][0]["expert"] == expert
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert PLANTED not in json.dumps(document)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "--dataset", "dema"], Code.DATASET_UNKNOWN),
        (["train", "--set", "expert.backbone=resnet_18"], Code.NAME_UNKNOWN),
        (["train", "--set", "expert.epoch=3"], Code.CONFIG_UNKNOWN_KEY),
        (["evaluate", "--expert", "nobody"], Code.EXPERT_UNKNOWN),
        (["evaluate"], Code.FUSION_UNKNOWN),
        (["evaluate", "--expert", "a", "--fusion", "b"], Code.CONFIG_INVALID),
        (["predict", "missing.dcm", "--expert", "EXPERT"], Code.DATA_UNREADABLE),
    ],
)
def test_mistakes_end_in_their_code(
    site: tuple[Path, str], arguments: list[str], code: Code
) -> None:
    config, expert = site
    words = [expert if word == "EXPERT" else word for word in arguments]
    assert code_of(*words, "--config", config) == code


def test_file_that_is_no_dicom_is_refused_without_its_name(
    site: tuple[Path, str], tmp_path: Path
) -> None:
    config, expert = site
    file = tmp_path / f"{PLANTED}.dcm"
    file.write_bytes(b"not a picture")
    result = RUNNER.invoke(
        build_app(), ["predict", str(file), "--expert", expert, "--config", str(config)]
    )
    assert isinstance(result.exception, EchoFedError)
    assert result.exception.code == Code.DATA_UNREADABLE
    assert PLANTED not in str(result.exception)


@pytest.fixture
def open_policy(site: tuple[Path, str]) -> Iterator[Path]:
    """The site's policy while it lets the benchmark have everything of one patient and more."""
    path = site[0].parent / "policy.yaml"
    closed = path.read_text()
    consent = DatasetPolicy(
        purposes=("fusion",),
        recipients=("benchmark",),
        artefacts=("rows", "expert_weights"),
        minimum_patients_per_view=1,
    )
    save_policy(Policy(revision=2, datasets={"demo": consent}), path)
    yield path
    path.write_text(closed)


def test_experts_and_features_leave_by_hand_and_are_recorded(
    site: tuple[Path, str], open_policy: Path, tmp_path: Path
) -> None:
    config, expert = site
    words = ["--recipient", "benchmark", "--config", config]
    document_of("export", tmp_path, *words)
    card, _ = load_expert(tmp_path / "experts" / expert)
    document_of("export", tmp_path, "--experts", tmp_path / "experts", *words)
    (file,) = (tmp_path / "exports").glob("*.safetensors")
    export = read_export(file.read_bytes())
    assert (export.card.expert, export.card.expert_sha256) == (expert, card.weights_sha256)
    sent = [
        (entry.body["artefact"], entry.body["recipient"])
        for entry in Ledger(config.parent / "ledger.sqlite").entries()
        if entry.kind == "egress.sent"
    ]
    assert ("expert_weights", "benchmark") in sent
    assert ("rows", "benchmark") in sent


def test_statistics_leave_by_hand_where_the_policy_lets_no_rows_go(
    site: tuple[Path, str], open_policy: Path, tmp_path: Path
) -> None:
    config, expert = site
    words = ["--recipient", "benchmark", "--config", config]
    document_of("export", tmp_path, *words)
    consent = DatasetPolicy(
        purposes=("fusion",),
        recipients=("benchmark",),
        artefacts=("statistics",),
        minimum_patients_per_view=2,
    )
    save_policy(Policy(revision=3, datasets={"demo": consent}), open_policy)
    before = len(list(Ledger(config.parent / "ledger.sqlite").entries()))
    document = document_of("export", tmp_path, "--experts", tmp_path / "experts", *words)
    (file,) = (tmp_path / "exports").glob("*")
    assert list(document["written"]) == [file.name]
    told = read_statistics(file.read_bytes())
    assert [block.expert for block in told.card.blocks] == [expert]
    later = list(Ledger(config.parent / "ledger.sqlite").entries())[before:]
    sent = [entry.body["artefact"] for entry in later if entry.kind == "egress.sent"]
    assert sent == ["statistics"]


def test_a_folder_without_experts_is_refused(
    site: tuple[Path, str], open_policy: Path, tmp_path: Path
) -> None:
    words = ["--recipient", "benchmark", "--config", site[0]]
    assert code_of("export", tmp_path, "--experts", tmp_path, *words) == Code.EXPERT_UNKNOWN


def test_what_the_policy_denies_is_not_written_by_hand_either(
    site: tuple[Path, str], tmp_path: Path
) -> None:
    config, _ = site
    words = ["--recipient", "benchmark", "--config", str(config)]
    result = RUNNER.invoke(build_app(), ["export", str(tmp_path), *words])
    assert result.exit_code == int(Code.EGRESS_DENIED)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_site_without_a_centre_must_name_the_recipient(
    site: tuple[Path, str], tmp_path: Path
) -> None:
    assert code_of("export", tmp_path, "--config", site[0]) == Code.CONFIG_INVALID
