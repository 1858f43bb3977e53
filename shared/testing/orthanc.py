"""A real archive for tests: Orthanc of Debian's packages on free loopback ports."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_PROGRAM = Path("/usr/sbin/Orthanc")
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_START_S = 30.0


def is_installed() -> bool:
    """Whether Debian's orthanc and orthanc-dicomweb are here."""
    return _PROGRAM.is_file() and _PLUGIN.is_file()


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running server and the account that may read it."""

    root: str
    title: str
    user: str
    password: str

    @property
    def dicomweb(self) -> str:
        return f"{self.root}/dicom-web"

    def client(self) -> httpx.Client:
        """A client of its REST interface."""
        return httpx.Client(
            base_url=self.root, auth=(self.user, self.password), trust_env=False, timeout=20
        )


@dataclass(frozen=True, slots=True)
class SenderTls:
    """What the server shows and believes where it sends over TLS (PEM)."""

    certificate: Path
    key: Path
    authority: Path


@contextmanager
def running(
    folder: Path, *, http_port: int, dicom_port: int, tls: SenderTls | None = None
) -> Iterator[Orthanc]:
    """Start an empty server whose storage is the folder; it ends with the block."""
    server = Orthanc(f"http://127.0.0.1:{http_port}", "ORTHANC", "reader", "s3cret-words")
    settings = {
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "DicomAet": server.title,
        "DicomAssociationCloseDelay": 0,
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "Plugins": [str(_PLUGIN)],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {server.user: server.password},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    if tls is not None:
        settings["DicomTlsCertificate"] = str(tls.certificate)
        settings["DicomTlsPrivateKey"] = str(tls.key)
        settings["DicomTlsTrustedCertificates"] = str(tls.authority)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([_PROGRAM, folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        _await(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def _await(server: Orthanc, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    with server.client() as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                if client.get("/system").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
    raise AssertionError("Orthanc did not start; its log lies in its folder")
