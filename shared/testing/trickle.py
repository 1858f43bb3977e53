"""A caller that begins a request and never goes on, in HTTP/2 by hand: no library sends that."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from shared.rpc.peer import Credentials

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_HEADERS = 0x4


@contextmanager
def begun_request(
    address: str, credentials: Credentials, method: str, *, timeout_ms: int | None
) -> Iterator[None]:
    """Hold a call whose message has begun with one byte.

    Args:
        address: of the server.
        credentials: of the caller.
        method: full name of the method, ``/package.Service/Method``.
        timeout_ms: deadline that the call names, or none.
    """
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(credentials.ca))
    context.load_cert_chain(str(credentials.certificate), str(credentials.key))
    context.set_alpn_protocols(["h2"])
    named = {} if timeout_ms is None else {"grpc-timeout": f"{timeout_ms}m"}
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": method,
        ":authority": address,
        "te": "trailers",
        "content-type": "application/grpc",
        **named,
    }
    headers = b"".join(_literal(name) + _literal(value, b"") for name, value in fields.items())
    with (
        socket.create_connection((host, int(port)), timeout=20.0) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.sendall(_PREFACE + _frame(_SETTINGS, b"", stream=0))
        secured.sendall(_frame(_HEADERS, headers, stream=1, flags=_END_HEADERS))
        secured.sendall(_frame(_DATA, b"\x00", stream=1))
        yield


def _frame(kind: int, payload: bytes, *, stream: int, flags: int = 0) -> bytes:
    """RFC 9113, section 4.1."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def _literal(text: str, mark: bytes = b"\x00") -> bytes:
    """A name, marked as new and not indexed, or a value (RFC 7541, section 6.2.2)."""
    assert len(text) < 127, "longer ones need more than a byte for their length"
    return mark + bytes([len(text)]) + text.encode()
