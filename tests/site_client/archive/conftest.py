"""A real archive: Orthanc, filled with a small virtual hospital and a CT that must stay there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shared.phantom.hospital import HospitalSpec, write_hospital
from shared.testing.dicom import build_dicom
from shared.testing.orthanc import Orthanc, is_installed, running
from site_client.federate import free_port


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = {"4CH": "A4C", "2CH": "A2C"}
    spec = HospitalSpec("north", "aurora", labels, 5, 1, 2, (96, 128), 0.5, 3)
    folder = tmp_path_factory.mktemp("hospital")
    write_hospital(spec, folder)
    return folder / "dicom"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, hospital: Path) -> Iterator[Orthanc]:
    if not is_installed():
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    elements = {"Modality": "CT", "SeriesInstanceUID": "1.2.3", "StudyDate": "20240301"}
    elements["SOPClassUID"] = "1.2.840.10008.5.1.4.1.1.2"
    scan = build_dicom(np.zeros((1, 8, 8), np.uint8), elements=elements)
    files = [path.read_bytes() for path in sorted(hospital.rglob("*.dcm"))]
    folder = tmp_path_factory.mktemp("orthanc")
    with running(folder, http_port=free_port(), dicom_port=free_port()) as server:
        with server.client() as client:
            for data in (scan, *files):
                client.post("/instances", content=data).raise_for_status()
        yield server
