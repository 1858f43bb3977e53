"""The SuperLink: Flower's server on loopback with TLS and node keys, driven by its own commands.

Nothing here imports Flower: the server is a child process and the Control API is reached through
the ``flwr`` command in its JSON mode, which is its stable face.
"""

import io
import json
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from shared.errors import Code, EchoFedError
from shared.files import sha256_hex, write_bytes
from shared.flower import end_leftover, flower_environment, listening_ports, stop_tree
from shared.rpc.authority import Authority

CONNECTION = "centre"
FLOWER_DATE = (2024, 10, 1, 0, 0, 0)  # the date that Flower gives to every file of a bundle
START_TIMEOUT_S = 90.0
COMMAND_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class SuperLink:
    """Where the SuperLink lives.

    Args:
        folder: its private folder (``FLWR_HOME``, database, log).
        port: loopback port; only the front and this machine's operator reach it.
        authority: whose server certificate it shows.
    """

    folder: Path
    port: int
    authority: Authority

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def log(self) -> Path:
        return self.folder / "superlink.log"


@dataclass(frozen=True, slots=True)
class RunState:
    """One Flower run: status (``pending``, ``running``, ``finished:completed`` ...) and traffic."""

    run_id: str
    status: str
    details: str
    bundle_hash: str
    bytes_in: int
    bytes_out: int

    @property
    def is_finished(self) -> bool:
        return self.status.startswith("finished")


@contextmanager
def running_superlink(link: SuperLink) -> Iterator[subprocess.Popen[bytes]]:
    """Hold a SuperLink: its port is owned by that very process; its children end with it.

    One that a killed centre left behind is ended first; its database is taken over.

    Raises:
        EchoFedError: CENTRE_UNREACHABLE where it does not come up, for instance because the port is
            taken.
    """
    write_connection(link)
    database, pid_file = link.folder / "flower.sqlite", link.folder / "superlink.pid"
    end_leftover(pid_file, marker=str(database))
    command = [
        *("flower-superlink", "--host", "127.0.0.1", "--port", str(link.port)),
        *("--ssl-certfile", str(link.authority.server_pem)),
        *("--ssl-keyfile", str(link.authority.server_key)),
        *("--ssl-ca-certfile", str(link.authority.ca_pem)),
        *("--database", str(database)),
        *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
    ]
    with link.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            env=flower_environment(link.home),
            cwd=link.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches us alone; we stop it in order
        )
    try:
        write_bytes(pid_file, str(process.pid).encode())
        _wait_for_port(process, link)
        yield process
    finally:
        stop_tree(process)
        pid_file.unlink(missing_ok=True)


def write_connection(link: SuperLink) -> None:
    """Write the file that tells the ``flwr`` command where this SuperLink is."""
    link.home.mkdir(parents=True, exist_ok=True)
    text = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f"address = {json.dumps(link.address)}\n"
        f"root-certificates = {json.dumps(str(link.authority.ca_pem.resolve()))}\n"
    )
    write_bytes(link.home / "config.toml", text.encode())


def register_node(link: SuperLink, *, site: str, public_key: str) -> str:
    """Register a site's key under the site's name and return the SuperLink's number of the node."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "node.pub"
        path.write_text(public_key + "\n")
        answer = flwr(link, "supernode", "register", str(path), CONNECTION, "--name", site)
    return str(answer["node-id"])


def unregister_node(link: SuperLink, node_id: str) -> None:
    """Unregister a node for ever; its key cannot come back."""
    flwr(link, "supernode", "unregister", node_id, CONNECTION)


def list_nodes(link: SuperLink) -> dict[str, str]:
    """Node id -> status (``registered``, ``online``, ``offline``, ``unregistered``)."""
    nodes = flwr(link, "supernode", "list", CONNECTION)["nodes"]
    return {str(node["node-id"]): str(node["status"]) for node in nodes}


def run_bundle(link: SuperLink, bundle: Path, run_config: Mapping[str, str]) -> str:
    """Start a run of the bundle and return its id.

    Args:
        link: the SuperLink.
        bundle: folder with the bundle's ``pyproject.toml`` and ``LICENSE``.
        run_config: values for the keys of ``[tool.flwr.app.config]``.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "run.toml"
        config.write_text(
            "".join(f"{key} = {json.dumps(value)}\n" for key, value in run_config.items())
        )
        answer = flwr(link, "run", str(bundle), CONNECTION, "--run-config", str(config))
    return str(answer["run-id"])


def run_status(link: SuperLink, run_id: str) -> RunState:
    """Status and traffic of one run."""
    run = flwr(link, "list", CONNECTION, "--run-id", run_id)["runs"][0]
    return RunState(
        run_id=str(run["run-id"]),
        status=str(run["status"]),
        details=str(run["status-details"]),
        bundle_hash=str(run["fab-hash"]),
        bytes_in=int(run["network-traffic"]["inbound-bytes"]),
        bytes_out=int(run["network-traffic"]["outbound-bytes"]),
    )


def stop_run(link: SuperLink, run_id: str) -> None:
    """Ask the SuperLink to stop a run."""
    flwr(link, "stop", run_id, CONNECTION)


def bundle_hash(bundle: Path) -> str:
    """SHA-256 of the bundle exactly as Flower packs and hashes it: the name that a site approves.

    Packed here, because ``flwr build`` takes seconds to start; a test compares the two.

    Raises:
        EchoFedError: CONFIG_INVALID where the folder holds anything but settings and licence.
    """
    names = sorted(path.name for path in bundle.iterdir())
    if names != ["LICENSE", "pyproject.toml"]:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{bundle} is not our bundle: it holds {', '.join(names)}",
            "install echofed again",
        )
    settings = tomllib.loads((bundle / "pyproject.toml").read_text())
    parts = {
        "pyproject.toml": tomli_w.dumps(settings).encode(),
        "LICENSE": (bundle / "LICENSE").read_bytes(),
    }
    content = [f"{name},{sha256_hex(data)},{len(data) * 8}" for name, data in parts.items()]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**parts, ".info/CONTENT": "\n".join(content).encode()}.items():
            archive.writestr(zipfile.ZipInfo(name, FLOWER_DATE), data)
    return sha256_hex(packed.getvalue())


def find_bundle() -> Path:
    """The bundle of this installation: beside the source tree, or installed under ``share``."""
    source = Path(__file__).resolve().parents[1] / "deploy" / "bundle"
    installed = Path(sys.prefix) / "share" / "echofed" / "bundle"
    for folder in (source, installed):
        if (folder / "pyproject.toml").is_file():
            return folder
    raise EchoFedError(
        Code.CONFIG_MISSING, "the Flower bundle is not installed", "install echofed again"
    )


def flwr(link: SuperLink, *arguments: str) -> dict[str, Any]:
    """Run one ``flwr`` command against this SuperLink and return its JSON document.

    Raises:
        EchoFedError: CENTRE_UNREACHABLE where nobody answers, else RUN_FAILED with Flower's own
            words.
    """
    done = _call(
        ["flwr", *arguments, "--format", "json"], flower_environment(link.home), cwd=link.folder
    )
    answer = _last_json(done.stdout)
    if done.returncode == 0 and answer.get("success"):
        return answer
    said = str(answer.get("error-message") or "") or _tail(done.stderr)
    if "refused" in said.lower() or "connect" in said.lower():
        raise EchoFedError(
            Code.CENTRE_UNREACHABLE,
            "the SuperLink does not answer",
            "run echofed-aggregator federate",
        )
    raise EchoFedError(
        Code.RUN_FAILED, f"flwr {arguments[0]} failed: {said[:400]}", "see the SuperLink's log"
    )


def _wait_for_port(process: subprocess.Popen[bytes], link: SuperLink) -> None:
    """Wait until the port is owned by this very process; that somebody answers is not enough."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if link.port in listening_ports(process.pid):
            return
        time.sleep(0.1)
    raise EchoFedError(
        Code.CENTRE_UNREACHABLE,
        f"the SuperLink did not start on port {link.port}",
        f"free the port or choose another; last words: {_tail(link.log.read_bytes())}",
    )


def _call(
    command: Sequence[str], env: Mapping[str, str], *, cwd: Path
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise EchoFedError(
            Code.CENTRE_UNREACHABLE,
            f"{command[0]} {command[1]} did not end in time",
            "is the machine overloaded?",
        ) from error


def _last_json(output: bytes) -> dict[str, Any]:
    text = output.decode(errors="replace")
    start = text.find("{")
    try:
        document = json.loads(text[start:]) if start >= 0 else {}
    except json.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _tail(output: bytes) -> str:
    return " ".join(output.decode(errors="replace").split())[-300:]
