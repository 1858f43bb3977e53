"""The README's site chapter, command by command, from a real Orthanc to a trained expert."""

import csv
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from shared.echo.manifest import SPLITS
from shared.testing.orthanc import Orthanc
from site_client.archive.access import PASSWORD, USER
from site_client.cli import build_app
from site_client.store import SiteStore

README = Path(__file__).parents[3] / "README.md"
CHAPTER = "## A site by itself"
SPLIT_OF = (0, 0, 0, 1, 2)  # of the hospital's five patients


@pytest.fixture
def chapter() -> str:
    text = README.read_text("utf-8")
    start = text.index(CHAPTER)
    return text[start : text.index("\n## ", start)]


def commands(chapter: str) -> list[list[str]]:
    blocks = re.findall(r"^```\n(.*?)^```", chapter, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("echofed-site")]
    return [line[1:] for line in words]


def write_labels(hospital: Path, path: Path) -> None:
    with (hospital.parent / "labels.csv").open(newline="") as file:
        said = list(csv.DictReader(file))
    headers = [dcmread(hospital.parent / row["file"], stop_before_pixels=True) for row in said]
    patients = sorted({header.PatientID for header in headers})
    rows = [
        f"{header.SOPInstanceUID},{row['label']},{SPLITS[SPLIT_OF[patients.index(header.PatientID)]]}"
        for row, header in zip(said, headers, strict=True)
    ]
    path.write_text("\n".join(["sop_uid,label,split", *rows]))


def sign(path: Path) -> None:
    """Do what the chapter asks a cardiologist for."""
    text = path.read_text("utf-8").replace('#  "', '  "')
    path.write_text(text.replace("  by:", "  by: Dr. Ada").replace("  date:", "  date: 2026-01-31"))


@pytest.mark.slow
def test_the_chapter_leads_from_an_archive_to_an_expert(
    chapter: str, orthanc: Orthanc, hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = [word for part in re.findall(r"--set expert\.\S+(?=[ `])", chapter)
             for word in part.rstrip("`").split()]  # fmt: skip
    clip = next(hospital.rglob("*.dcm"))
    words = {"/secure": str(tmp_path / "secure"), "file.dcm": str(clip),
             "https://pacs.hospital/dicom-web": orthanc.dicomweb}  # fmt: skip
    expert = ""
    after: dict[str, Callable[[], None]] = {
        "init": lambda: monkeypatch.chdir(tmp_path / "north"),
        "fetch": lambda: write_labels(hospital, tmp_path / "secure" / "labels.csv"),
        "labels": lambda: sign(tmp_path / "north" / "labels.yaml"),
    }
    ran = []
    for command in commands(chapter):
        name = command[0]
        if name in ("receive", "forget"):  # the first waits for a signal, the second for an answer
            continue
        line = [re.sub(r"^north-echo2026-\w+$", expert, word) for word in command]
        for old, new in words.items():
            line = [word.replace(old, new) for word in line]
        line += [*quick, "--set", "expert.threads=1"] if name == "train" else []
        result = CliRunner().invoke(
            build_app(), line, env={USER: orthanc.user, PASSWORD: orthanc.password}
        )
        assert result.exit_code == 0, f"{line}: {result.output} {result.exception}"
        after.get(name, lambda: None)()
        expert = next(iter(SiteStore(tmp_path / "north").experts()), "")
        ran.append(name)
    assert ran[:5] == ["init", "doctor", "fetch", "labels", "ingest"]
    assert ran[-3:] == ["train", "evaluate", "predict"]
    assert len(SiteStore(tmp_path / "north").manifest("echo2026").clips) == 10
