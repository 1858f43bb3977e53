"""Which Flower bundle may come in: one whose hash the site approved and that carries no code."""

import hashlib
import io
import tomllib
import zipfile

from shared.errors import Code, EchoFedError

CLIENT_APP = "site_client.app:app"
FILES = {"pyproject.toml", "LICENSE", ".info/CONTENT"}
UNPACKED_LIMIT = 1024 * 1024  # bytes unpacked; ours has some twelve thousand


def expect_bundle(content: bytes, approved: frozenset[str]) -> None:
    """Let a bundle pass, or refuse it before a byte of it is unpacked to disk.

    Args:
        content: the bundle as it came.
        approved: SHA-256 hashes (hex) that the site's policy lists.

    Raises:
        EchoFedError: BUNDLE_UNAPPROVED where the hash is not listed, where it carries any file
            beside settings and licence (approved or not: code comes from this site's own
            installation), or where it names another app.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest not in approved:
        raise _unapproved(f"bundle {digest[:16]} is not approved", digest)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
            if names - FILES or sum(info.file_size for info in archive.infolist()) > UNPACKED_LIMIT:
                raise _unapproved(f"bundle {digest[:16]} carries files of its own", digest)
            settings = tomllib.loads(archive.read("pyproject.toml").decode())
        named = settings["tool"]["flwr"]["app"]["components"]["clientapp"]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise _unapproved(f"bundle {digest[:16]} is not readable", digest) from error
    if named != CLIENT_APP:
        raise _unapproved(f"bundle {digest[:16]} names another app", digest)


def _unapproved(message: str, digest: str) -> EchoFedError:
    return EchoFedError(
        Code.BUNDLE_UNAPPROVED,
        message,
        f"read the bundle, then add {digest} to approved_bundles in policy.yaml",
    )
