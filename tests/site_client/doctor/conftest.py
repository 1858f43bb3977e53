"""A whole site to be damaged, an authority, and a centre whose clock can be set."""

import http.server
import itertools
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from aggregator.enrolment import approve, invite
from shared.ledger import Ledger
from shared.rpc.authority import Authority, create_authority, ensure_server_certificate
from site_client.doctor.finding import Check, Finding, Premises
from site_client.identity import Identity, accept_certificate, join
from site_client.policy import Policy, save_policy
from site_client.store import SiteStore

StripedSite = Callable[..., SiteStore]
_NUMBER = itertools.count()  # an authority admits a name with one key only


@dataclass
class Centre:
    """A TLS server that answers as a front would."""

    address: str


@pytest.fixture(scope="session")
def sound_site(tmp_path_factory: pytest.TempPathFactory, build_striped_site: StripedSite) -> Path:
    """A standalone site with a dataset, a policy and a ledger."""
    root = tmp_path_factory.mktemp("sound") / "north"
    store = build_striped_site(root)
    save_policy(Policy(), root / "policy.yaml")
    Ledger(store.ledger_path).append("site.created", {"site": "north"}, actor="north")
    return root


@pytest.fixture
def premises(tmp_path: Path, sound_site: Path) -> Premises:
    """A copy of the sound site."""
    root = tmp_path / "north"
    shutil.copytree(sound_site, root)
    return Premises(SiteStore(root), root / "policy.yaml", None, datetime.now(UTC), is_full=False)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    now = datetime.now(UTC)
    made = create_authority(tmp_path_factory.mktemp("centre") / "ca", "test", now=now)
    ensure_server_certificate(made, [], now=now)
    return made


@pytest.fixture
def enrol(authority: Authority) -> Callable[..., Identity]:
    """Give a site a certificate of the authority."""

    def make(
        premises: Premises, *, valid: timedelta = timedelta(days=90), of: Authority = authority
    ) -> Identity:
        folder, now = premises.store.identity_folder, datetime.now(UTC)
        kit = invite(of, f"north{next(_NUMBER)}", address="", federation="test", now=now)
        request = join(folder, kit, now=now)
        _, document = approve(of, request, federation="test", now=now, valid=valid)
        accept_certificate(folder, document)
        return Identity(folder)

    return make


@pytest.fixture
def centre(authority: Authority) -> Callable[..., AbstractContextManager[Centre]]:
    """Start a centre whose clock is off by some seconds."""

    @contextmanager
    def start(*, ahead_s: float = 0.0) -> Iterator[Centre]:
        class Front(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response_only(200)
                time = datetime.now(UTC) + timedelta(seconds=ahead_s)
                self.send_header("Date", format_datetime(time, usegmt=True))
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                return None

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca_pem)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(authority.server_pem, authority.server_key)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Front)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield Centre(f"127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    return start


@pytest.fixture
def faults() -> Callable[[Check, Premises], list[tuple[str, str]]]:
    """What a check complains of: state and code of everything that is not fine."""

    def look(check: Check, premises: Premises) -> list[tuple[str, str]]:
        found: list[Finding] = [one for one in check(premises) if one.state != "ok"]
        assert all(one.mend for one in found)
        return [(one.state, one.code.name if one.code else "") for one in found]

    return look
