"""What both houses need to start Flower's processes and to end them, without importing Flower."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

STOP_TIMEOUT_S = 12.0


def flower_environment(home: Path) -> dict[str, str]:
    """The environment of every Flower process.

    Its home is private; telemetry, update check and run-time installation are off.
    Foreign ``FLWR_`` variables are dropped, so that nothing of the user's own Flower set-up leaks
    in.

    Args:
        home: folder that takes the place of ``~/.flwr``.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return kept | {
        "PATH": path,
        "FLWR_HOME": str(home.resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONSAFEPATH": "1",  # a stray shared/ in the working folder cannot win
    }


def stop_tree(process: subprocess.Popen[bytes], *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Stop a process with SIGINT, then everything it started that is still alive.

    Flower's executor and app processes run in sessions of their own and outlive a killed parent;
    they are looked up before the parent goes.
    """
    family = _descendants(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            family |= _descendants(process.pid)
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=2.0)
    _end(alive, (psutil.Process.terminate, psutil.Process.kill))
    if process.poll() is None:
        process.kill()
    process.wait()


def end_leftover(pid_file: Path, *, marker: str) -> bool:
    """End a process that a killed parent left behind, and everything it started.

    Args:
        pid_file: where its number was noted.
        marker: text that its command line must hold; a number may have gone to somebody else.

    Returns:
        Whether there was one.
    """
    if not pid_file.is_file():
        return False
    try:
        leftover = psutil.Process(int(pid_file.read_text()))
        if marker not in leftover.cmdline():
            return False
        family = [leftover, *leftover.children(recursive=True)]
    except (psutil.NoSuchProcess, ValueError):
        return False
    _end(family, (psutil.Process.terminate, psutil.Process.kill))
    return True


def listening_ports(pid: int) -> set[int]:
    """TCP ports on which this very process listens."""
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return set()
    return {found.laddr.port for found in connections if found.status == psutil.CONN_LISTEN}


def _descendants(pid: int) -> set[psutil.Process]:
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def _end(family: list[psutil.Process], steps: tuple[Callable[..., None], ...]) -> None:
    for step in steps:
        for member in family:
            _quietly(step, member)
        _, family = psutil.wait_procs(family, timeout=5.0)


def _quietly(step: Callable[[psutil.Process], None], orphan: psutil.Process) -> None:
    try:
        step(orphan)
    except psutil.NoSuchProcess:
        return
