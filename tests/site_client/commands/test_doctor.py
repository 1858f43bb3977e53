"""``echofed-site doctor``: 0 at a sound site, else the number of the first fault."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from shared.errors import Code
from site_client.cli import build_app
from site_client.store import SiteStore

RUNNER = CliRunner()


@pytest.fixture
def config(tmp_path: Path, build_striped_site: Callable[..., SiteStore]) -> Path:
    folder = tmp_path / "north"
    assert RUNNER.invoke(build_app(), ["init", "--standalone", str(folder)]).exit_code == 0
    build_striped_site(folder)
    return folder / "site.yaml"


def ask(config: Path, *words: str) -> Result:
    return RUNNER.invoke(build_app(), ["doctor", "--config", str(config), *words])


def states(result: Result) -> dict[str, Any]:
    return {f["check"]: f["state"] for f in json.loads(result.stdout)["findings"]}


def test_a_sound_site_ends_with_zero(config: Path) -> None:
    said = ask(config, "--json", "--full")
    assert said.exit_code == 0, said.output
    document = json.loads(said.stdout)
    assert document["fault"] == 0
    assert document["site"] == "north"
    assert all(f["mend"] for f in document["findings"] if f["state"] != "ok")


def test_the_first_fault_numbers_the_end_and_every_fault_is_told(config: Path) -> None:
    (config.parent / "policy.yaml").write_text("datasetz: 1")
    (config.parent / "ledger.sqlite").write_bytes(b"x" * 4096)
    said = ask(config, "--json")
    assert said.exit_code == Code.CONFIG_UNKNOWN_KEY
    found = states(said)
    assert (found["policy"], found["ledger"], found["datasets"]) == ("fault", "fault", "ok")
    text = ask(config)
    assert text.exit_code == Code.CONFIG_UNKNOWN_KEY
    assert "-> " in text.stdout
