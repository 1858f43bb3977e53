"""Whether there is room to write, and the right to."""

import os
import shutil
from collections.abc import Iterator

from shared.errors import Code
from site_client.doctor.finding import Finding, Premises, fault, fine, warn

_LEAST_BYTES = 1 << 30  # a training's checkpoints and an export; less ends in DISK_FULL soon
_EASY_BYTES = 20 << 30  # some thousand clips


def check(premises: Premises) -> Iterator[Finding]:
    """Free space and the right to write."""
    root = premises.store.root
    free = shutil.disk_usage(root).free
    room = f"{free / (1 << 30):.1f} GiB are free"
    if free < _LEAST_BYTES:
        yield fault(Code.DISK_FULL, room, "free some space; 20 GiB are comfortable")
    elif free < _EASY_BYTES:
        yield warn(room, "make room before the next ingest or training")
    else:
        yield fine(room)
    if not os.access(root, os.W_OK | os.X_OK):
        yield fault(
            Code.CONFIG_INVALID,
            "the site's folder cannot be written to",
            "run as the user that owns it, or mount it writable",
        )
