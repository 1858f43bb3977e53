"""Flower's processes start with a private home and end with all they started."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shared.flower import end_leftover, flower_environment, listening_ports, stop_tree

FAMILY = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
child = subprocess.Popen(sleep, start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""
SERVER = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
time.sleep(60)
"""


def start(program: str, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    number = int(process.stdout.readline())
    process.stdout.close()
    return process, number


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_environment_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", "/somebody/elses")
    monkeypatch.setenv("FLWR_INTERNAL_GRPC_FLEET_API", "1")
    environment = flower_environment(tmp_path)
    assert environment["FLWR_HOME"] == str(tmp_path)
    assert "FLWR_INTERNAL_GRPC_FLEET_API" not in environment
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"


def test_a_child_in_a_session_of_its_own_ends_too() -> None:
    process, child = start(FAMILY)
    stop_tree(process)
    assert process.poll() is not None
    assert is_gone(child)


def test_a_port_is_that_processes_own() -> None:
    process, port = start(SERVER)
    try:
        assert port in listening_ports(process.pid)
        assert port not in listening_ports(psutil.Process().pid)
    finally:
        process.kill()
        process.wait()
    assert listening_ports(process.pid) == set()


def test_what_a_killed_parent_left_is_ended(tmp_path: Path) -> None:
    process, child = start(FAMILY, "our-database")
    pid_file = tmp_path / "pid"
    pid_file.write_text(str(process.pid))
    assert end_leftover(pid_file, marker="our-database")
    process.wait(5)
    assert is_gone(child)
    assert not end_leftover(pid_file, marker="our-database")


def test_a_number_that_went_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    process, child = start(FAMILY, "their-database")
    pid_file = tmp_path / "pid"
    pid_file.write_text(str(process.pid))
    assert not end_leftover(pid_file, marker="our-database")
    time.sleep(0.1)
    assert process.poll() is None
    stop_tree(process)
    assert is_gone(child)
