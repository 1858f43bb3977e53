"""The answer to a roll call: that this site is there, which release it runs and that blobs reach it whole."""

from importlib.metadata import version
from pathlib import Path

from shared.files import sha256_hex
from shared.payload import Payload


def answer(config: Path, request: Payload) -> Payload:
    """Say which release answers and the hashes of the blobs that came along; nothing of the site's data."""
    received = {name: sha256_hex(blob) for name, blob in request.blobs.items()}
    return Payload({"release": version("echofed"), "received": received})
