"""The answer to a roll call: this site is there, runs this release and receives blobs whole."""

from importlib.metadata import version
from pathlib import Path

from shared.files import sha256_hex
from shared.payload import Payload


def answer(config: Path, request: Payload) -> Payload:
    """Say which release answers and what blobs came along; nothing of the site's data."""
    received = {name: sha256_hex(blob) for name, blob in request.blobs.items()}
    return Payload({"release": version("echofed"), "received": received})
