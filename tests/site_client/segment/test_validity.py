"""The clinical objects before strangers: the standard's tables, a validator and an archive."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from shared.testing.orthanc import is_installed, running
from site_client.segment.cine import SegmentedCine
from site_client.segment.write import CLINICAL, FILES, write_outputs

MADE = datetime(2024, 3, 12, 10, 30)  # noqa: DTZ001 - a time on the hospital's clock
TABLES = Path(highdicom.__file__).parent / "_standard"
VALIDATOR = shutil.which("dciodvfy")
IODS = {"seg": "segmentation", "sr": "comprehensive-sr"}
CONDITIONAL = {"segmentation-multi-frame-functional-groups", "sr-document-content"}
"""Each macro in them has a condition of its own, which the tables do not tell."""


@pytest.fixture
def folder(segmented: SegmentedCine, source: FileDataset, tmp_path: Path) -> Path:
    write_outputs(tmp_path, segmented, source, CLINICAL, made=MADE)
    source.save_as(tmp_path / "source.dcm", enforce_file_format=True)
    return tmp_path


def mandatory_attributes(iod: str) -> Iterator[dict[str, Any]]:
    modules = json.loads((TABLES / "iod_module_map.json").read_text())[iod]
    attributes = json.loads((TABLES / "module_attribute_map.json").read_text())
    for module in modules:
        if module["usage"] == "M" and module["key"] not in CONDITIONAL:
            yield from attributes[module["key"]]


def items_at(dataset: Dataset, path: list[str]) -> list[Dataset]:
    """All items of the sequences along a path that are there."""
    found = [dataset]
    for keyword in path:
        found = [item for one in found for item in one.get(keyword) or ()]
    return found


@pytest.mark.parametrize("kind", CLINICAL)
def test_no_required_attribute_is_missing(folder: Path, kind: str) -> None:
    dataset = dcmread(folder / FILES[kind])
    asked = 0
    for attribute in mandatory_attributes(IODS[kind]):
        for item in items_at(dataset, attribute["path"]):
            keyword, where = attribute["keyword"], ".".join(attribute["path"])
            if attribute["type"] in {"1", "2"}:
                assert keyword in item, f"{where}.{keyword}"
                asked += 1
            if attribute["type"] == "1":
                assert item[keyword].value not in (None, "", []), f"{where}.{keyword}"
    assert asked > 30


@pytest.mark.skipif(VALIDATOR is None, reason="dciodvfy is not here: apt-get install dicom3tools")
@pytest.mark.parametrize("kind", CLINICAL)
def test_a_validator_finds_no_error(folder: Path, kind: str) -> None:
    assert VALIDATOR is not None
    ran = subprocess.run([VALIDATOR, "-new", folder / FILES[kind]], capture_output=True, text=True)
    said = (ran.stdout + ran.stderr).splitlines()
    # a private scheme is by nature none that the standard knows
    wrong = [line for line in said if "Error" in line or "Warning" in line]
    assert [line for line in wrong if "<99ECHOFED>" not in line] == []
    assert any({"seg": "Segmentation", "sr": "ComprehensiveSR"}[kind] in line for line in said)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.skipif(not is_installed(), reason="Orthanc is not here: apt-get install orthanc")
def test_an_archive_takes_them_in_and_shows_the_masks(
    segmented: SegmentedCine, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("orthanc")
    ports = {"http_port": free_port(), "dicom_port": free_port()}
    with running(store, **ports) as server, server.client() as client:
        ids = {}
        for name in ("source.dcm", *(FILES[kind] for kind in CLINICAL)):
            answer = client.post("/instances", content=(folder / name).read_bytes())
            ids[name] = answer.raise_for_status().json()["ID"]
        # one study of one patient, three series
        (study,) = client.get("/studies").json()
        assert len(client.get(f"/studies/{study}").json()["Series"]) == 3
        shown = client.get(f"/instances/{ids[FILES['seg']]}/frames/0/preview").raise_for_status()
    picture_HW = np.asarray(Image.open(BytesIO(shown.content)).convert("L"))
    first = segmented.masks[0]
    assert first is not None
    np.testing.assert_array_equal(picture_HW > 0, first.region("lv"))
