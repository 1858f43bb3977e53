"""The inbox: identified DICOM files on their way from the archive to ingest, for their owner only.

No UID stands in a file name: two files of one name are one instance, whoever brought it, and
nobody without the site's key can tell which.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Code, EchoFedError
from shared.files import write_bytes

NOTICE = "the inbox holds identified data, as the archive gave it: ingest it, then delete it"
_NAME_CHARACTERS = 32  # 128 bits: no two instances of the world share a name by chance
_OF_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Inbox:
    """A private folder of instances, each in a file named by a keyed hash of its UID."""

    folder: Path
    key: bytes

    def has(self, instance: str) -> bool:
        """Whether the instance of this UID is there already; what is there is whole."""
        return self._path(instance).is_file()

    def put(self, instance: str, data: bytes) -> None:
        """Write an instance whole or not at all.

        Raises:
            EchoFedError: DISK_FULL.
        """
        write_bytes(self._path(instance), data)

    def _path(self, instance: str) -> Path:
        full = hmac.new(self.key, b"instance\0" + instance.encode(), hashlib.sha256).hexdigest()
        return self.folder / f"{full[:_NAME_CHARACTERS]}.dcm"


def open_inbox(folder: Path, key: bytes, *, site_root: Path) -> Inbox:
    """Make the folder, or take one that nobody else can read.

    Args:
        folder: of the inbox.
        key: the site's secret key, for the names of the files.
        site_root: the site's own folder, where nothing identified may lie.

    Raises:
        EchoFedError: CONFIG_INVALID where the folder overlaps the site's own or others can read it.
    """
    chosen, root = folder.resolve(), site_root.resolve()
    if chosen.is_relative_to(root) or root.is_relative_to(chosen):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "the inbox would lie in the site's own folder, or around it",
            "choose a folder of its own with --out: what it holds is identified",
        )
    if chosen.exists() and not chosen.is_dir():
        raise EchoFedError(Code.CONFIG_INVALID, "--out is no folder", "choose another one")
    chosen.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(chosen.iterdir()) and chosen.stat().st_mode & _OF_OTHERS:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "--out is a folder with files that others can read",
            "choose a new folder, or take the rights of group and others away (chmod 700)",
        )
    os.chmod(chosen, 0o700)
    return Inbox(chosen, key)
