"""The two commands as a user types them: real processes, their JSON, their end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.flower import stop_tree

RUN_TIMEOUT_S = 400


def command_line(name: str, *words: object, config: Path) -> list[str]:
    """The words of a command of this environment, with ``--json``."""
    binary = Path(sys.executable).parent / name
    return [str(binary), *(str(word) for word in words), "--config", str(config), "--json"]


def set_options(tree: Mapping[str, object]) -> list[str]:
    """``--set`` of every dotted setting."""
    return [word for key, value in tree.items() for word in ("--set", f"{key}={value}")]


def run_command(name: str, *words: object, config: Path) -> dict[str, Any]:
    """Run a command that must succeed and return its document."""
    done = subprocess.run(
        command_line(name, *words, config=config),
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=RUN_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def start_command(log: Path, name: str, *words: object, config: Path) -> subprocess.Popen[bytes]:
    """Start a command that serves and wait for its first line; stderr goes to the log."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command_line(name, *words, config=config), stdout=subprocess.PIPE, stderr=errors
        )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.stdout.close()
    assert first, log.read_text(errors="replace")[-3000:]
    return process


@contextmanager
def serving(log: Path, name: str, *words: object, config: Path) -> Iterator[None]:
    """Hold a command that serves."""
    process = start_command(log, name, *words, config=config)
    try:
        yield
    finally:
        stop_tree(process, timeout_s=30)
