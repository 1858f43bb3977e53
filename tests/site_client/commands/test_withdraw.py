"""``echofed-site withdraw``: what goes and what the operator must do next."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from shared.errors import Code, EchoFedError
from site_client.cli import build_app
from site_client.policy import DatasetPolicy, Policy, load_policy, save_policy

RUNNER = CliRunner()


def run(*words: object) -> Result:
    return RUNNER.invoke(build_app(), [str(word) for word in words])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    run("init", "--standalone", tmp_path / "north")
    consent = DatasetPolicy(recipients=("echofed",))
    save_policy(Policy(datasets={"demo": consent}), tmp_path / "north" / "policy.yaml")
    return tmp_path / "north" / "site.yaml"


def test_the_policy_is_revoked_and_the_way_on_is_told(config: Path) -> None:
    config.write_text("site: north\ncentre: {address: '127.0.0.1:1', federation: echofed}\n")
    said = run("withdraw", "demo", "--config", config, "--json")
    assert said.exit_code == 0, said.output
    document = json.loads(said.stdout)
    assert document["withdrawn"]["policy_revision"] == 2
    assert "withdraw north/demo" in document["afterwards"][0]
    assert load_policy(config.parent / "policy.yaml").datasets["demo"].withdrawn is not None


def test_a_site_without_a_centre_is_told_of_none(config: Path) -> None:
    said = run("withdraw", "demo", "--config", config)
    assert said.exit_code == 0, said.output
    assert "centre" not in said.output


def test_an_unknown_dataset_is_refused_and_the_policy_stays(config: Path) -> None:
    before = (config.parent / "policy.yaml").read_bytes()
    error = run("withdraw", "demi", "--config", config).exception
    assert isinstance(error, EchoFedError)
    assert error.code is Code.DATASET_UNKNOWN
    assert (config.parent / "policy.yaml").read_bytes() == before
