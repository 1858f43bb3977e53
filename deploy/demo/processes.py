"""The demo's processes: commands run to their end, servers beside it, all gone when it goes."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

BIN = Path(sys.executable).parent


class CommandFailed(Exception):
    """A command of the demo ended with an error; its last lines are the message."""


class Processes:
    """Runs the two commands as real processes and remembers what each cost."""

    def __init__(self, logs: Path) -> None:
        """Keep the folder for logs and start watching memory."""
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self.steps: list[dict[str, Any]] = []
        self.peak_pss_bytes = 0
        self._done = threading.Event()
        threading.Thread(target=self._watch_memory, daemon=True).start()

    def run(self, step: str, command: list[str]) -> dict[str, Any]:
        """Run a command with --json to its end and return its document.

        Raises:
            CommandFailed: with the end of its log.
        """
        say(step)
        started, cpu_before = time.monotonic(), _children_cpu_s()
        log = self._logs / f"{len(self.steps):02d}-{_slug(step)}.log"
        with log.open("wb") as errors:
            done = subprocess.run(
                [str(BIN / command[0]), *command[1:], "--json"],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=quiet_environment(),
                check=False,
            )
        self.note(step, time.monotonic() - started, _children_cpu_s() - cpu_before)
        if done.returncode != 0:
            tail = log.read_text(errors="replace")[-2000:]
            raise CommandFailed(f"{step}: exit code {done.returncode}\n{tail}")
        document = json.loads(done.stdout or b"{}")
        assert isinstance(document, dict)
        return document

    def serve(self, name: str, command: list[str]) -> None:
        """Start a server in a process group of its own; its log stands in the log folder."""
        with (self._logs / f"server-{name}.log").open("ab") as log:
            self._servers[name] = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=quiet_environment(),
                start_new_session=True,
            )

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Remember what the block cost, its child processes included."""
        started, cpu_before = time.monotonic(), _own_cpu_s() + _children_cpu_s()
        yield
        cpu_seconds = _own_cpu_s() + _children_cpu_s() - cpu_before
        self.note(step, time.monotonic() - started, cpu_seconds)

    def note(self, step: str, seconds: float, cpu_seconds: float) -> None:
        """Remember what a step cost."""
        self.steps.append(
            {"step": step, "seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}
        )

    def stop(self) -> None:
        """End every server: SIGINT, then SIGKILL for what is left of its group and its children."""
        self._done.set()
        children = [c for s in self._servers.values() for c in _descendants(s.pid)]
        for server in self._servers.values():
            _signal_group(server.pid, signal.SIGINT)
        deadline = time.monotonic() + 20
        for server in self._servers.values():
            try:
                server.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(server.pid, signal.SIGKILL)
        for child in children:
            if child.is_running():
                child.kill()
        self._servers.clear()

    def _watch_memory(self) -> None:
        while not self._done.wait(2.0):
            total = sum(
                _pss_bytes(process) for process in [psutil.Process(), *_descendants(os.getpid())]
            )
            self.peak_pss_bytes = max(self.peak_pss_bytes, total)


@contextmanager
def all_processes(logs: Path) -> Iterator[Processes]:
    """Processes that end with the block, also on Ctrl-C and SIGTERM."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    processes = Processes(logs)
    try:
        yield processes
    finally:
        processes.stop()


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quiet_environment() -> dict[str, str]:
    """The environment of every child: no telemetry, no update check, two threads."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "2",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def say(text: str) -> None:
    """One line of progress on stderr."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def _pss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return 0


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower())[:60]
