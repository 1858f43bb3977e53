"""What one message between centre and site carries: a small JSON body and named blobs.

The header names format, site and the SHA-256 of every blob; an error travels as its number and
nothing else.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import Code, EchoFedError
from shared.files import sha256_hex

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Payload:
    """Body and blobs of one message.

    Args:
        body: JSON values (small: names, counts, hashes, metrics).
        blobs: name -> bytes (safetensors and the like); they travel in chunks, so tens of megabytes
            are fine.
    """

    body: Mapping[str, Any] = field(default_factory=dict)
    blobs: Mapping[str, bytes] = field(default_factory=dict)


def write_header(payload: Payload, *, site: str) -> str:
    """The header of a message to or from a site."""
    hashes = {name: sha256_hex(blob) for name, blob in payload.blobs.items()}
    return json.dumps(
        {"format": FORMAT, "site": site, "body": dict(payload.body), "blobs": hashes},
        sort_keys=True,
        allow_nan=False,
    )


def write_refusal(code: Code, *, site: str) -> str:
    """The header of a reply that carries an error's number; its text stays where it arose."""
    return json.dumps({"format": FORMAT, "site": site, "error": int(code)}, sort_keys=True)


def read_payload(header: str, blobs: Mapping[str, bytes], *, site: str) -> Payload:
    """Check a header against the expected site and the blobs that came with it.

    Raises:
        EchoFedError: WIRE_INVALID for a damaged or newer message, IDENTITY_MISMATCH for another
            site's, else the error that the other side reported by number.
    """
    document = _parse(header)
    if document.get("site") != site:
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            f"a message for site {site!r} names site {document.get('site')!r}",
            "revoke the site and enrol it again if this was not expected",
        )
    if "error" in document:
        raise _reported(document["error"], site)
    hashes, body = document.get("blobs"), document.get("body")
    if not isinstance(hashes, dict) or not isinstance(body, dict) or hashes.keys() != blobs.keys():
        raise EchoFedError(Code.WIRE_INVALID, "a message lacks parts it names", "ask for it again")
    for name, blob in blobs.items():
        if sha256_hex(blob) != hashes[name]:
            raise EchoFedError(
                Code.WIRE_INVALID, f"blob {name!r} was damaged on the way", "ask for it again"
            )
    return Payload(body, dict(blobs))


def _parse(header: str) -> dict[str, Any]:
    try:
        document = json.loads(header)
    except json.JSONDecodeError as error:
        raise EchoFedError(
            Code.WIRE_INVALID, "a message has no readable header", "ask for it again"
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("format"), int):
        raise EchoFedError(
            Code.WIRE_INVALID, "a message has no readable header", "ask for it again"
        )
    if document["format"] > FORMAT:
        raise EchoFedError(
            Code.WIRE_INVALID,
            f"a message has format {document['format']}, this release reads up to {FORMAT}",
            "update this installation",
        )
    return document


def _reported(number: object, site: str) -> EchoFedError:
    known = {int(code): code for code in Code}
    code = known.get(number, Code.INTERNAL) if isinstance(number, int) else Code.INTERNAL
    return EchoFedError(code, f"site {site!r} reports {code.name}", "the site's own log says why")
