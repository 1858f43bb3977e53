"""TLS of the receiver: its certificate, and whose certificates it asks its callers for."""

import socket
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.errors import Code, EchoFedError

_HANDSHAKE_S = 10.0
_OF_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files of a receiver's TLS, PEM.

    Args:
        certificate: of the receiver with its chain.
        key: its private key, closed to others.
        senders: authorities of which callers must show a certificate; None asks nobody for one.
    """

    certificate: Path
    key: Path
    senders: Path | None


class ReceiverContext(ssl.SSLContext):
    """A server's context in which a caller that says nothing is dropped.

    The receiver's library shakes hands where it accepts, without a limit: one silent caller would
    keep everybody else out.
    """

    def wrap_socket(self, sock: socket.socket, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """Shake hands within a limit."""
        sock.settimeout(_HANDSHAKE_S)
        wrapped = super().wrap_socket(sock, *arguments, **options)
        wrapped.settimeout(None)
        return wrapped


def open_tls(files: TlsFiles) -> ReceiverContext:
    """The context of a receiver: TLS 1.2 or later (BCP 195, PS3.15 B.9).

    Raises:
        EchoFedError: CONFIG_MISSING, CONFIG_INVALID.
    """
    for name, path in asdict(files).items():
        if path is not None and not path.is_file():
            raise EchoFedError(
                Code.CONFIG_MISSING, f"there is no file receive.{name}", "check the settings"
            )
    if files.key.stat().st_mode & _OF_OTHERS:
        raise EchoFedError(
            Code.CONFIG_INVALID, "others can read the key of the receiver", "chmod 600 the file"
        )
    context = ReceiverContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
        if files.senders is not None:
            context.load_verify_locations(files.senders)
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, ValueError) as error:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "receive.certificate, key or senders is damaged, or the first two are no pair",
            "give PEM files of one pair, the key without a password",
        ) from error
    return context


def _refuse_password() -> bytes:
    """OpenSSL would ask at the terminal otherwise."""
    raise ValueError("the key has a password")
