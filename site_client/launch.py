"""What starting a site's node takes: plain values, a TLS context and a look at the centre."""

import base64
import http.client
import ssl
from dataclasses import asdict, dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json
from site_client.egress import approved_bundles
from site_client.identity import Identity

PROBE_TIMEOUT_S = 10.0
_WAYS_OUT = {
    Code.CERTIFICATE_EXPIRED: "ask for a new kit; if it is the centre's own, tell the centre",
    Code.NODE_REFUSED: "ask the centre whether the site is enrolled; check this machine's clock",
    Code.CENTRE_UNREACHABLE: "check address and network; is echofed-aggregator federate running?",
}


@dataclass(frozen=True, slots=True)
class NodeLaunch:
    """Everything that a node needs to start.

    Args:
        site: site code.
        address: ``host:port`` of the centre's front.
        config: the site's settings file; the app that answers messages reads it.
        policy: the site's policy file; its approved bundles are read anew for every bundle.
        identity: the folder with node key, certificate and CA.
        ledger: the site's ledger, where refusals are recorded.
        home: folder for Flower's own files.
        runtime_port: loopback port on which the node and its app meet.
        heartbeat_s: seconds between signs of life; a lost node is noticed after two of them
            (Flower: 10 to 1800).
        patience_s: how long a refusal or a silent centre is borne before the node gives up.
    """

    site: str
    address: str
    config: Path
    policy: Path
    identity: Path
    ledger: Path
    home: Path
    runtime_port: int
    heartbeat_s: int = 30
    patience_s: float = 180.0

    def approved(self) -> frozenset[str]:
        """The approved bundle hashes of the policy as it stands now."""
        return approved_bundles(self.policy)


def write_launch(launch: NodeLaunch, path: Path) -> None:
    """Write the launch file that the node's process reads."""
    document = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(launch).items()
    }
    write_json(path, document)


def read_launch(path: Path) -> NodeLaunch:
    """Read a launch file."""
    document: dict[str, Any] = read_json(path)
    paths = {key: Path(document[key]) for key in ("config", "policy", "identity", "ledger", "home")}
    return NodeLaunch(**{**document, **paths})


def client_context(identity: Identity) -> ssl.SSLContext:
    """TLS that trusts the centre's CA alone and shows the site's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(str(identity.ca))
    context.load_cert_chain(str(identity.certificate), str(identity.tls_key))
    return context


def probe(identity: Identity, address: str) -> datetime | None:
    """Look once whether the centre lets this site in and answers, by the way its node would take.

    Returns:
        The centre's clock as its answer tells it, to the second; None where it tells none.

    Raises:
        EchoFedError: CERTIFICATE_EXPIRED, NODE_REFUSED or CENTRE_UNREACHABLE.
    """
    connection = _open_connection(identity, address)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
    except ConnectionResetError as error:
        # asyncio's server drops a connection whose certificate it refuses without saying why
        raise failure(Code.NODE_REFUSED, address) from error
    except (OSError, http.client.HTTPException) as error:
        raise failure(code_of_failure(error), address) from error
    finally:
        connection.close()
    if response.status == http.HTTPStatus.FORBIDDEN:
        raise failure(Code.NODE_REFUSED, address)
    if response.status >= http.HTTPStatus.BAD_REQUEST:
        raise failure(Code.CENTRE_UNREACHABLE, address)
    return _clock_of(response.headers.get("date"))


def way_to(address: str) -> str:
    """The address, with the proxy through which it is reached where HTTPS_PROXY names one."""
    proxy = _proxy_for(address)
    return f"{address} through the proxy {proxy.hostname}:{_port(proxy)}" if proxy else address


def _open_connection(identity: Identity, address: str) -> http.client.HTTPSConnection:
    """Direct, or through a tunnel of the proxy, as Flower's own client decides."""
    context, proxy = client_context(identity), _proxy_for(address)
    if proxy is None:
        return http.client.HTTPSConnection(address, timeout=PROBE_TIMEOUT_S, context=context)
    connection = http.client.HTTPSConnection(
        str(proxy.hostname), _port(proxy), timeout=PROBE_TIMEOUT_S, context=context
    )
    headers = {}
    if proxy.username:
        pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    connection.set_tunnel(address, headers=headers)
    return connection


def _proxy_for(address: str) -> SplitResult | None:
    """The proxy that the environment names for an address; NO_PROXY names exceptions."""
    named = getproxies()
    proxy = named.get("https") or named.get("all")
    if not proxy or proxy_bypass(urlsplit(f"//{address}").hostname or ""):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _port(proxy: SplitResult) -> int:
    try:
        return proxy.port or http.client.HTTP_PORT
    except ValueError as error:
        raise EchoFedError(
            Code.CONFIG_INVALID, "HTTPS_PROXY is no address", "write http://host:port"
        ) from error


def _clock_of(header: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(header) if header else None
    except ValueError:
        return None


def code_of_failure(error: BaseException) -> Code:
    """The code of a connection that failed, by what TLS said.

    OpenSSL reports the other side's opinion of our certificate as an alert, and its own opinion of
    theirs as a failed verification; only the texts tell the reasons apart.
    """
    text = f"{error} {error.__cause__ or ''} {error.__context__ or ''}".lower().replace("_", " ")
    if "certificate expired" in text or "certificate has expired" in text:
        return Code.CERTIFICATE_EXPIRED
    if "certificate verify failed" in text or "alert" in text:
        return Code.NODE_REFUSED
    return Code.CENTRE_UNREACHABLE


def failure(code: Code, address: str) -> EchoFedError:
    """The error of a node that cannot join, with its way out."""
    messages = {
        Code.CERTIFICATE_EXPIRED: "a certificate on the way to the centre has ended",
        Code.NODE_REFUSED: f"the centre at {way_to(address)} refuses this site",
        Code.CENTRE_UNREACHABLE: f"the centre at {way_to(address)} does not answer",
    }
    message = messages.get(code, f"the node ended with {code.name}")
    return EchoFedError(code, message, _WAYS_OUT.get(code, "see the log above"))
