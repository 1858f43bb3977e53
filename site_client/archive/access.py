"""How an archive is spoken to: its address, who asks, and whose certificates are believed."""

import base64
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx

from shared.errors import Code, EchoFedError

log = logging.getLogger(__name__)

USER, PASSWORD, TOKEN = (
    "ECHOFED_ARCHIVE_USER", "ECHOFED_ARCHIVE_PASSWORD", "ECHOFED_ARCHIVE_TOKEN"
)  # fmt: skip
_NAMES = (USER, PASSWORD, TOKEN)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # archives on tape take their time to the first byte


def open_client(
    address: str, credentials: Mapping[str, str], *, authority: Path | None = None
) -> httpx.Client:
    """A client of one archive; proxies, netrc and redirects are not followed.

    Args:
        address: root of the archive's DICOMweb services.
        credentials: values by the names above; empty for an archive that asks nobody's name.
        authority: PEM file of the only authorities to believe; None believes the system's.

    Raises:
        EchoFedError: CONFIG_INVALID without a word of the credentials, CONFIG_MISSING.
    """
    headers = _authorization(credentials)
    url = _address(address)
    if headers and url.scheme == "http" and url.host not in _LOOPBACK:
        log.warning("the credentials cross the network unencrypted: use an https address")
    return httpx.Client(
        base_url=url,
        headers=headers,
        verify=_trust(authority),
        timeout=_TIMEOUT,
        trust_env=False,
        follow_redirects=False,
    )


def read_credentials(file: Path | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Credentials from a private file of NAME=VALUE lines, or from the environment.

    Raises:
        EchoFedError: CONFIG_MISSING, or CONFIG_INVALID where others can read the file, a line is
            none of ours, or both places hold credentials.
    """
    given = {name: environment[name] for name in _NAMES if environment.get(name)}
    if file is None:
        return given
    if given:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"the environment has {', '.join(given)}, and --credentials names a file",
            "leave one of them out",
        )
    if not file.is_file():
        raise EchoFedError(Code.CONFIG_MISSING, "there is no credentials file", "check the path")
    if file.stat().st_mode & 0o077:
        raise EchoFedError(
            Code.CONFIG_INVALID, "others can read the credentials file", "chmod 600 the file"
        )
    lines = [line.strip() for line in file.read_text("utf-8", "replace").splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    values = {name.strip(): value.strip() for name, _, value in pairs}
    if not values or not values.keys() <= set(_NAMES):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "the credentials file has a line that is not understood, or none",
            f"write NAME=VALUE lines of {', '.join(_NAMES)}",
        )
    return values


def _authorization(credentials: Mapping[str, str]) -> dict[str, str]:
    given = {name for name in _NAMES if credentials.get(name)}
    if not given:
        return {}
    if given == {TOKEN}:
        token = credentials[TOKEN]
        if token.isascii() and token.isprintable():
            return {"Authorization": f"Bearer {token}"}
    elif given == {USER, PASSWORD} and ":" not in credentials[USER]:
        pair = f"{credentials[USER]}:{credentials[PASSWORD]}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    raise EchoFedError(
        Code.CONFIG_INVALID,
        "the credentials of the archive are incomplete or cannot be sent",
        f"give {USER} and {PASSWORD}, or {TOKEN} alone",
    )


def _address(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "the archive's address is no http or https address",
            "give the root of its DICOMweb services, as in https://pacs.example/dicom-web",
        )
    if url.userinfo:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "the archive's address carries credentials, which others can see in the process list",
            f"leave them out and set {USER} and {PASSWORD}",
        )
    return url


def _trust(authority: Path | None) -> ssl.SSLContext:
    if authority is not None and not authority.is_file():
        raise EchoFedError(Code.CONFIG_MISSING, "there is no file of authorities", "check --ca")
    try:
        return ssl.create_default_context(cafile=authority)
    except ssl.SSLError as error:
        raise EchoFedError(
            Code.CONFIG_INVALID, "--ca is no file of certificates", "give certificates in PEM form"
        ) from error
