"""The site's Flower node: the stock SuperNode with a guard on its one connection to the centre.

The guard opens the connection with the site's certificate, lets a bundle in only if the site
approved its hash and it carries no code, and takes every text out of the errors that leave. It
wraps two names of Flower that are not public (``_init_connection`` and ``FleetHttpClient``);
``tests/site_client/test_supernode.py`` fails loudly when they change.

The decision about a bundle is left to Flower's own verifier: the node trusts one key that exists in
this process only, and the guard signs with it what the site approved. A guard that is not in place
thus lets nothing in.

Run as ``python -P -m site_client.supernode LAUNCH.json`` by ``site_client/federate.py``.
"""

import base64
import hashlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Error, Message
from flwr.supercore import heartbeat
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.primitives.asymmetric_ed25519 import create_message_to_sign
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient

from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from shared.log import set_up_log
from site_client.bundle import expect_bundle
from site_client.identity import Identity, expect_certificate
from site_client.launch import NodeLaunch, client_context, code_of_failure, read_launch

log = logging.getLogger(__name__)

ACTIVATION_RETRY_S = 3.0
_TRUSTED = "fpk_echofed-guard"


@dataclass(slots=True)
class Ending:
    """Why the node ended, if it was not asked to; becomes the exit code of the process."""

    code: Code | None = None

    def leave(self, code: Code) -> None:
        """Note the reason and end the node in Flower's own orderly way."""
        if self.code is None:
            self.code = code
            log.error("the node ends: %s", code.name)
            os.kill(os.getpid(), signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Guard:
    """What stands between Flower's node and the centre.

    Args:
        approved: returns the approved bundle hashes; asked anew for every bundle.
        record: called with the kind and the body of every refusal.
        key: signs approved bundles for Flower's verifier; lives as long as the process.
    """

    approved: Callable[[], frozenset[str]]
    record: Callable[[str, dict[str, Any]], None]
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def trusted_entities(self) -> dict[str, str]:
        """The one key that Flower's verifier trusts, as its settings file wants it."""
        line = self.key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        return {_TRUSTED: line.decode()}

    def attest(self, fab: Fab) -> Fab:
        """Sign a bundle that passes; any other goes on unsigned, which Flower answers with 7."""
        digest = hashlib.sha256(fab.content).hexdigest()
        try:
            expect_bundle(fab.content, self.approved())
        except EchoFedError as error:
            log.error("%s", error)
            self.record("bundle.refused", {"bundle": digest, "reason": error.message})
            return replace(fab, verifications={})
        signed_at = int(time.time())
        message = create_message_to_sign(hashlib.sha256(fab.content).digest(), signed_at)
        signature = base64.urlsafe_b64encode(self.key.sign(message)).decode().rstrip("=")
        record = json.dumps({"signed_at": signed_at, "signature": signature})
        return replace(fab, verifications={"valid_license": "site", _TRUSTED: record})

    def guard(self, connection: Sequence[Any]) -> tuple[Any, ...]:
        """Wrap the two functions of a connection through which code comes in and errors go out."""
        node_id, receive, send, get_run, get_fab, pull_object, push_object, confirm = connection

        def attested(fab_hash: str, run_id: int) -> Fab:
            return self.attest(get_fab(fab_hash, run_id))

        def scrubbed(message: Message, tree: Any, seconds: float) -> tuple[set[str], str]:
            if not message.has_error():
                return send(message, tree, seconds)  # type: ignore[no-any-return]
            plain = scrub(message)
            object_ids, session = send(plain, get_object_tree(plain), seconds)
            for object_id in object_ids:
                push_object(plain.metadata.run_id, session, object_id, plain.deflate())
            return set(), session

        return node_id, receive, scrubbed, get_run, attested, pull_object, push_object, confirm


def scrub(message: Message) -> Message:
    """The same error reply without its text, which may name a patient's file."""
    plain = Message(Error(message.error.code, ""), metadata=message.metadata)
    plain.metadata.__dict__["_message_id"] = ""
    plain.metadata.__dict__["_message_id"] = plain.object_id
    return plain


def guarded_client(
    identity: Identity, *, patience_s: float, ending: Ending
) -> type[FleetHttpClient]:
    """Flower's fleet client with the site's certificate, and patient where its node is refused.

    Args:
        identity: the site's key and certificate and the centre's CA.
        patience_s: how long a refused activation is tried again; after a crash the centre needs two
            heartbeats to notice that the old connection is gone.
        ending: where a final refusal is noted.
    """

    class GuardedClient(FleetHttpClient):  # type: ignore[misc]
        @classmethod
        def from_server_address(
            cls,
            server_address: str,
            insecure: bool,
            root_certificates: bytes | str | None,
            interceptors: Sequence[Any],
            *,
            retry_invoker: Any = None,
        ) -> Any:
            return cls(
                f"https://{server_address}",
                interceptors=[*interceptors, Watch(ending, identity)],
                verify=client_context(identity),
                retry_invoker=retry_invoker,
            )

        def ActivateNode(self, request: Any) -> Any:  # noqa: N802  Flower's name
            deadline = time.monotonic() + patience_s
            while True:
                try:
                    return super().ActivateNode(request)
                except httpx.HTTPStatusError as error:
                    if error.response.status_code != httpx.codes.PRECONDITION_FAILED:
                        raise
                    if time.monotonic() > deadline:
                        ending.code = Code.NODE_REFUSED
                        raise
                log.warning("the centre refuses this node for now; trying again")
                time.sleep(ACTIVATION_RETRY_S)

    return GuardedClient


@dataclass(frozen=True, slots=True)
class Watch:
    """Sees every answer of the centre and ends the node where waiting cannot help."""

    ending: Ending
    identity: Identity

    def intercept(self, context: Any, call_next: Callable[[Any], httpx.Response]) -> httpx.Response:
        """Pass the call on; 401, the front's 403 and a certificate that has ended are final."""
        try:
            response = call_next(context)
        except httpx.TransportError as error:
            if (code := self._code_of(error)) is not Code.CENTRE_UNREACHABLE:
                self.ending.leave(code)
            raise
        from_front = not response.headers.get("content-type", "").startswith("application/")
        if response.status_code == httpx.codes.UNAUTHORIZED or (
            response.status_code == httpx.codes.FORBIDDEN and from_front
        ):
            self.ending.leave(Code.NODE_REFUSED)
        return response

    def _code_of(self, error: httpx.TransportError) -> Code:
        try:
            expect_certificate(self.identity, now=datetime.now(UTC))
        except EchoFedError as ended:
            return ended.code
        return code_of_failure(error)


def install_guard(guard: Guard, client: type[FleetHttpClient], *, heartbeat_s: int) -> None:
    """Put the guard into Flower's node: its connection, its client and its heartbeat."""
    original = start_client_internal._init_connection

    @contextmanager
    def guarded_connection(*args: Any, **kwargs: Any) -> Iterator[tuple[Any, ...]]:
        with original(*args, **kwargs) as connection:
            yield guard.guard(connection)

    start_client_internal._init_connection = guarded_connection
    fleet_http_connection.FleetHttpClient = client
    fleet_http_connection.HEARTBEAT_DEFAULT_INTERVAL = heartbeat_s
    heartbeat.HEARTBEAT_DEFAULT_INTERVAL = heartbeat_s


def run_node(launch: NodeLaunch) -> None:
    """Run the node in this process until it is told to stop.

    Raises:
        SystemExit: 0 after SIGINT or SIGTERM, else the number of one of our error codes, or 1.
    """
    identity = Identity(launch.identity)
    start_parent_process_monitor(os.getppid())  # a killed supervisor leaves no node behind
    ending = Ending()
    ledger = Ledger(launch.ledger)
    guard = Guard(
        approved=launch.approved,
        record=lambda kind, body: _append(ledger, kind, body, actor=launch.site),
    )
    client = guarded_client(identity, patience_s=launch.patience_s, ending=ending)
    install_guard(guard, client, heartbeat_s=launch.heartbeat_s)
    with tempfile.TemporaryDirectory() as folder:
        trusted = Path(folder) / "trusted.yaml"
        trusted.write_text(yaml.safe_dump(guard.trusted_entities()))
        sys.argv = ["flower-supernode", *_arguments(launch, identity, trusted)]
        try:
            flower_supernode()
        except SystemExit as end:
            raise SystemExit(int(ending.code) if ending.code else end.code) from None
    raise SystemExit(
        int(ending.code or Code.INTERNAL)
    )  # the node returns only when its connection broke


def _arguments(launch: NodeLaunch, identity: Identity, trusted: Path) -> list[str]:
    node_config = (
        f"site={json.dumps(launch.site)} config={json.dumps(str(launch.config.resolve()))}"
    )
    return [
        *("--superlink", launch.address),
        *("--root-certificates", str(identity.ca)),
        *("--auth-supernode-private-key", str(identity.node_key)),
        *("--trusted-entities", str(trusted)),
        *("--node-config", node_config),
        *("--host", "127.0.0.1", "--port", str(launch.runtime_port)),
    ]


def _append(ledger: Ledger, kind: str, body: dict[str, Any], *, actor: str) -> None:
    ledger.append(kind, body, actor=actor)


if __name__ == "__main__":
    _launch = read_launch(Path(sys.argv[1]))
    set_up_log(site=_launch.site)
    logging.getLogger("flwr").handlers.clear()  # its own would say everything twice
    logging.getLogger("flwr").setLevel(logging.INFO)
    run_node(_launch)
