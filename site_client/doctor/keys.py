"""Whether the site's secrets are there, whole, and closed to others."""

import stat
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from shared.errors import Code
from site_client.doctor.finding import Finding, Premises, fault, fine, warn
from site_client.identity import Identity

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_RESTORE = "restore the identity folder from its backup; nothing here can make it again"


def check(premises: Premises) -> Iterator[Finding]:
    """The key of the pseudonyms, and in a federation the node's two encodings of one key."""
    identity = Identity(premises.store.identity_folder)
    try:
        is_whole = len(premises.store.key()) >= 32  # a shorter HMAC key is a cut file
    except ValueError:
        is_whole = False
    if not is_whole:
        yield fault(Code.CHECKPOINT_CORRUPT, "the key of the pseudonyms is damaged", _RESTORE)
    secrets = [identity.folder / "pseudonym.key"]
    if premises.address is not None or identity.tls_key.exists():
        missing = [path for path in (identity.node_key, identity.tls_key) if not path.is_file()]
        for path in missing:
            yield fault(Code.CONFIG_MISSING, f"there is no {path.name}", _RESTORE)
        if not missing:
            secrets += [identity.node_key, identity.tls_key]
            yield _compare(identity)
    yield from (_look_at_mode(path) for path in secrets)
    if identity.folder.stat().st_mode & _OTHERS:
        yield warn("the identity folder is open to other users", "run chmod 700 on identity/")


def _look_at_mode(path: Path) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        return fault(
            Code.CONFIG_INVALID,
            f"{path.name} has mode {mode:04o}: others may read it",
            f"run chmod 600 on identity/{path.name}; if others had it, ask for a new kit",
        )
    return fine(f"{path.name} is there and closed to others")


def _compare(identity: Identity) -> Finding:
    try:
        tls = serialization.load_pem_private_key(identity.tls_key.read_bytes(), None)
        node = serialization.load_ssh_private_key(identity.node_key.read_bytes(), None)
    except (ValueError, TypeError):
        return fault(Code.CHECKPOINT_CORRUPT, "node.key or tls.key is damaged", _RESTORE)
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    if tls.public_key().public_bytes(*form) != node.public_key().public_bytes(*form):
        return fault(Code.IDENTITY_MISMATCH, "node.key and tls.key are not one key", _RESTORE)
    return fine("node.key and tls.key are one key")
