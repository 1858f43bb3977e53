"""A real archive: Orthanc, filled with a small virtual hospital and a CT that must stay there.

Beside it certificates: of the hospital's authority for a receiver and for a sender.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.files import write_bytes
from shared.phantom.hospital import HospitalSpec, write_hospital
from shared.rpc.authority import (
    Authority,
    create_authority,
    ensure_server_certificate,
    sign_site_certificate,
    write_private_key,
)
from shared.testing.dicom import build_dicom
from shared.testing.orthanc import Orthanc, SenderTls, is_installed, running
from site_client.federate import free_port


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = {"4CH": "A4C", "2CH": "A2C"}
    spec = HospitalSpec("north", "aurora", labels, 5, 1, 2, (96, 128), 0.5, 3)
    folder = tmp_path_factory.mktemp("hospital")
    write_hospital(spec, folder)
    return folder / "dicom"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority, and a server's certificate for loopback beside it."""
    now = datetime.now(UTC)
    made = create_authority(tmp_path_factory.mktemp("authority") / "ca", "test", now=now)
    ensure_server_certificate(made, [], now=now)
    return made


@pytest.fixture(scope="session")
def sender(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> SenderTls:
    """A client's certificate of the authority."""
    folder = tmp_path_factory.mktemp("sender") / "tls"
    key = ec.generate_private_key(ec.SECP384R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    certificate = sign_site_certificate(
        authority, request.sign(key, hashes.SHA384()), "pacs",
        now=datetime.now(UTC), valid=timedelta(days=1),
    )  # fmt: skip
    write_private_key(folder / "key.pem", key)
    write_bytes(folder / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return SenderTls(folder / "cert.pem", folder / "key.pem", authority.ca_pem)


@pytest.fixture(scope="module")
def orthanc(
    tmp_path_factory: pytest.TempPathFactory, hospital: Path, sender: SenderTls
) -> Iterator[Orthanc]:
    if not is_installed():
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    elements = {"Modality": "CT", "SeriesInstanceUID": "1.2.3", "StudyDate": "20240301"}
    elements["SOPClassUID"] = "1.2.840.10008.5.1.4.1.1.2"
    scan = build_dicom(np.zeros((1, 8, 8), np.uint8), elements=elements)
    files = [path.read_bytes() for path in sorted(hospital.rglob("*.dcm"))]
    folder = tmp_path_factory.mktemp("orthanc")
    ports = {"http_port": free_port(), "dicom_port": free_port()}
    with running(folder, **ports, tls=sender) as server:
        with server.client() as client:
            for data in (scan, *files):
                client.post("/instances", content=data).raise_for_status()
        yield server
