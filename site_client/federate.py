"""Hold the site's node in the foreground: start it, again if it falls over, and end it."""

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from shared.errors import Code, EchoFedError
from shared.flower import flower_environment, stop_tree
from site_client.identity import Identity, expect_certificate
from site_client.launch import NodeLaunch, failure, probe, write_launch

log = logging.getLogger(__name__)

RETRY_S = 3.0
FINAL = frozenset({Code.NODE_REFUSED, Code.CERTIFICATE_EXPIRED})
_STEADY_S = 60.0  # a node that lived this long starts with full patience again


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return int(probe_socket.getsockname()[1])


def federate(launch: NodeLaunch, *, stop: threading.Event) -> None:
    """Run the node until ``stop`` is set; a node that falls over is started again.

    Args:
        launch: settings of the node.
        stop: set by a signal or by a test.

    Raises:
        EchoFedError: CERTIFICATE_EXPIRED, NODE_REFUSED (after ``patience_s``), CENTRE_UNREACHABLE,
            or RUN_FAILED where the node keeps falling over.
    """
    identity = Identity(launch.identity)
    launch_file = launch.home / "launch.json"
    write_launch(launch, launch_file)
    deadline = time.monotonic() + launch.patience_s
    while not stop.is_set():
        expect_certificate(identity, now=datetime.now(UTC))
        _await_centre(identity, launch, stop=stop, deadline=deadline)
        started = time.monotonic()
        code = _run_once(launch_file, launch.home, stop=stop)
        if stop.is_set() or code == 0:
            return
        if code in FINAL:
            raise failure(Code(code), launch.address)
        if time.monotonic() - started > _STEADY_S:
            deadline = time.monotonic() + launch.patience_s
        if time.monotonic() > deadline:
            raise EchoFedError(Code.RUN_FAILED, "the node keeps falling over", "see the log above")
        log.warning("the node ended with %d; starting it again", code)
        stop.wait(RETRY_S)


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; the old handlers come back afterwards."""
    event = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        event.set()

    old: dict[signal.Signals, Callable[..., object] | int | None] = {
        number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield event
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _await_centre(
    identity: Identity, launch: NodeLaunch, *, stop: threading.Event, deadline: float
) -> None:
    while not stop.is_set():
        try:
            probe(identity, launch.address)
            return
        except EchoFedError as error:
            if error.code is Code.CERTIFICATE_EXPIRED or time.monotonic() > deadline:
                raise
            log.warning("%s", error)
        stop.wait(RETRY_S)


def _run_once(launch_file: Path, home: Path, *, stop: threading.Event) -> int:
    command = [sys.executable, "-P", "-m", "site_client.supernode", str(launch_file)]
    process = subprocess.Popen(
        command,
        env=flower_environment(home),
        stdin=subprocess.DEVNULL,
        stdout=2,  # Flower's apps chat on stdout; ours is for one document and may be closed
        start_new_session=True,
    )
    try:
        while process.poll() is None and not stop.is_set():
            stop.wait(0.2)
    finally:
        stop_tree(process)
    return process.returncode
