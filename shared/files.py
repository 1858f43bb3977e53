"""Atomic files: a file is either the old one or the whole new one, whatever happens in between."""

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from shared.errors import Code, EchoFedError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def sha256_hex(data: bytes) -> str:
    """SHA-256 of the bytes, in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def expect_file_name(name: str) -> str:
    """Return a name from elsewhere if it can name a folder here and nothing outside it.

    Raises:
        EchoFedError: WIRE_INVALID.
    """
    if not _FILE_NAME.fullmatch(name):
        raise EchoFedError(
            Code.WIRE_INVALID,
            f"{name[:64]!r} cannot name a file",
            "use letters, digits, dots, dashes and underscores, at most 128",
        )
    return name


def write_bytes(path: Path, data: bytes) -> None:
    """Write the file whole or not at all (temporary file, fsync, rename).

    Raises:
        EchoFedError: DISK_FULL; what stood there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        _tell_no_space(error, path, len(data))
        raise


def append_bytes(path: Path, data: bytes) -> None:
    """Add to the end of a file, for what may be cut off: a kill may leave a part of it.

    Raises:
        EchoFedError: DISK_FULL.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # 0600, as write_bytes leaves its files
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(data)
    except OSError as error:
        _tell_no_space(error, path, len(data))
        raise


def _tell_no_space(error: OSError, path: Path, num_bytes: int) -> None:
    if error.errno in _NO_SPACE:
        raise EchoFedError(
            Code.DISK_FULL,
            f"no space left to write {path.name} ({num_bytes} bytes)",
            "free some space and run the same command again; nothing was lost",
        ) from error


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document atomically, keys in the order given."""
    write_bytes(path, (json.dumps(document, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        EchoFedError: CONFIG_MISSING for no such file, CHECKPOINT_CORRUPT for no JSON object.
    """
    if not path.is_file():
        raise EchoFedError(Code.CONFIG_MISSING, f"there is no file {path.name}", "check the folder")
    try:
        document = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT, f"{path.name} is not JSON", "restore it from a backup"
        ) from error
    if not isinstance(document, dict):
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT, f"{path.name} is not a JSON object", "restore it"
        )
    return document


def arrays_to_bytes(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Pack named arrays and text metadata as safetensors."""
    dense = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return bytes(save_safetensors(dense, dict(metadata)))


def arrays_from_bytes(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Unpack safetensors into arrays and metadata.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT.
    """
    try:
        arrays = load_safetensors(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            "the arrays are not readable as safetensors",
            "ask for them again",
        ) from error
    return arrays, metadata


def shapes_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of each array by name: two sets of weights that agree here are of one kind."""
    return {name: (array.shape, array.dtype.str) for name, array in arrays.items()}


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> str:
    """Write named arrays atomically as safetensors and return the SHA-256 of the file."""
    data = arrays_to_bytes(arrays, metadata)
    write_bytes(path, data)
    return sha256_hex(data)


def load_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read named arrays and metadata from a safetensors file."""
    if not path.is_file():
        raise EchoFedError(Code.CHECKPOINT_CORRUPT, f"there is no file {path.name}", "restore it")
    return arrays_from_bytes(path.read_bytes())
