"""The commands of the centre: made, entered, shown and audited, each with its code and document."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from aggregator.cli import build_app
from aggregator.enrolment import find
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json
from shared.rpc.authority import Authority
from site_client.identity import accept_certificate, join

RUNNER = CliRunner()


def run(*arguments: object) -> Result:
    return RUNNER.invoke(build_app(), [str(argument) for argument in arguments])


def document_of(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.exception or result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def error_of(*arguments: object) -> EchoFedError:
    error = run(*arguments).exception
    assert isinstance(error, EchoFedError)
    return error


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh centre, made once by the command."""
    config = tmp_path_factory.mktemp("made") / "aggregator.yaml"
    ports = ("--set", "federation.port=0", "--set", "federation.superlink_port=0")
    document_of("init", *ports, "--config", config)
    return config


@pytest.fixture
def config(tmp_path: Path, made: Path) -> Path:
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "aggregator.yaml"


@pytest.fixture
def finished(tmp_path: Path, grown: Path) -> Path:
    """The settings of a centre after its first increment, with an authority."""
    shutil.copytree(grown / "centre", tmp_path, dirs_exist_ok=True)
    return tmp_path / "aggregator.yaml"


@pytest.fixture(scope="module")
def fused(grown: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a centre with a candidate that was fitted in closed form, made once."""
    folder = tmp_path_factory.mktemp("fused")
    shutil.copytree(grown / "centre", folder, dirs_exist_ok=True)
    quick = ("--set", "fusion.variants=[ridge]")
    document_of("fuse", *quick, "--config", folder / "aggregator.yaml")
    return folder


@pytest.fixture
def candidate(tmp_path: Path, fused: Path) -> Path:
    """The settings of a centre with a candidate."""
    shutil.copytree(fused, tmp_path, dirs_exist_ok=True)
    return tmp_path / "aggregator.yaml"


def test_init_writes_free_ports_down(config: Path) -> None:
    text = config.read_text()
    assert "port: 0" not in text
    assert "superlink_port" in text


def test_init_does_not_touch_what_is_there(config: Path) -> None:
    before = config.read_bytes()
    assert error_of("init", "--config", config).code is Code.ALREADY_EXISTS
    assert config.read_bytes() == before


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("federation.prot=1", Code.CONFIG_UNKNOWN_KEY),
        ("federation.port=many", Code.CONFIG_INVALID),
        ("port", Code.CONFIG_INVALID),
    ],
)
def test_init_refuses_settings_that_do_not_exist(tmp_path: Path, override: str, code: Code) -> None:
    config = tmp_path / "aggregator.yaml"
    assert error_of("init", "--set", override, "--config", config).code is code
    assert not config.exists()


def test_without_a_settings_file_the_way_out_is_init(tmp_path: Path) -> None:
    error = error_of("status", "--config", tmp_path / "aggregator.yaml")
    assert error.code is Code.CONFIG_MISSING
    assert "init" in error.hint


def test_a_site_is_invited_admitted_and_shut_out(config: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path, "--config", config)
    kit = read_json(Path(document_of("enrol", "north", *out)["kit"]))
    assert (len(kit["bundle"]), kit["services"]) == (64, "127.0.0.1:8445")
    identity = tmp_path / "site" / "identity"
    request = tmp_path / "north.request"
    write_json(request, join(identity, kit, now=_now()))
    admitted = document_of("enrol", "--approve", request, *out)
    assert accept_certificate(identity, read_json(Path(admitted["certificate"]))) is not None
    assert not admitted["registered"]  # no SuperLink runs; federate makes up for it
    (site,) = document_of("status", "--config", config)["sites"]
    assert (site["site"], site["status"]) == ("north", "approved")
    document_of("enrol", "--revoke", "north", "--config", config)
    entry = find(Authority(tmp_path / "ca"), "north")
    assert entry is not None
    assert entry.status == "revoked"


@pytest.mark.parametrize("words", [(), ("north", "--revoke", "south")])
def test_enrol_takes_exactly_one_thing(config: Path, words: tuple[str, ...]) -> None:
    assert error_of("enrol", *words, "--config", config).code is Code.CONFIG_INVALID


def test_enrol_refuses_a_name_that_is_no_site_code(config: Path) -> None:
    assert error_of("enrol", "St. Mary", "--config", config).code is Code.CONFIG_INVALID


def test_an_empty_bank_fuses_nothing(config: Path) -> None:
    assert error_of("fuse", "--config", config).code is Code.NOTHING_TO_DO


def test_an_increment_without_federate_says_so_and_stays_open(config: Path) -> None:
    error = error_of("increment", "--config", config)
    assert error.code is Code.CENTRE_UNREACHABLE
    assert "federate" in error.hint
    (row,) = document_of("status", "--config", config)["increments"]
    assert row["status"] == "running"


def test_status_names_what_is_announced_and_not_yet_fused(finished: Path) -> None:
    document = document_of("status", "--config", finished)
    assert document["not_yet_fused"] == ["north/echo", "south/echo"]
    assert [row["status"] for row in document["increments"]] == ["finished"]


def test_fuse_registers_a_candidate_and_audit_holds(finished: Path) -> None:
    document = document_of("fuse", "--set", "fusion.seed=3", "--config", finished)
    assert document["alias"] == "candidate"
    assert document_of("status", "--config", finished)["not_yet_fused"] == []
    assert document_of("audit", "verify", "--config", finished)["exports"] == 4
    scores = document_of("audit", "experts", "--config", finished)
    assert scores["fusion"] == document["fusion"]
    shown = run("audit", "experts", "--config", finished)
    assert "north/echo" in shown.output
    assert "mean over experts" in shown.output
    assert "calibration error of discrepancy" in shown.output
    assert "by depth" in shown.output


def test_a_dry_run_of_a_withdrawal_shows_the_impact_and_changes_nothing(finished: Path) -> None:
    def files() -> dict[Path, bytes]:
        kept = (p for p in finished.parent.rglob("*") if p.is_file() and "sqlite" not in p.name)
        return {path: path.read_bytes() for path in kept}

    before, status = files(), document_of("status", "--config", finished)
    words = ("withdraw", "south/echo", "--dry-run", "--config", finished)
    impact = document_of(*words)["impact"]
    assert [one["site"] for one in impact["experts"]] == ["south"]
    assert (len(impact["exports"]), len(impact["fusions"]), impact["evaluations"]) == (3, 1, 2)
    assert "trained on it" in run(*words).output
    assert files() == before
    assert document_of("status", "--config", finished) == status


def test_a_withdrawal_ends_with_a_certificate_that_audit_finds(finished: Path) -> None:
    words = ("withdraw", "south/echo", "--actor", "ada", "--config", finished)
    shown = run(*words).output
    assert "as if it had never been there" in shown
    (row,) = document_of("status", "--config", finished)["withdrawals"]
    assert (row["dataset"], row["status"]) == ("south/echo", "finished")
    for again in (words, (*words, "--dry-run")):
        assert error_of(*again).code is Code.NOTHING_TO_DO
    assert error_of("withdraw", "north", "--config", finished).code is Code.DATASET_UNKNOWN


def test_nothing_serves_before_a_promotion(finished: Path) -> None:
    words = ("--reason", "try", "--config", finished)
    assert error_of("promote", *words).code is Code.MODEL_UNKNOWN
    assert error_of("rollback", *words).code is Code.MODEL_UNKNOWN


def test_a_promotion_shows_its_assessment_first(candidate: Path) -> None:
    words = ("--reason", "first", "--actor", "ada", "--config", candidate)
    document = document_of("promote", *words)
    assert document["delivery"] is None  # federate does not run
    assert document["assessment"]["candidate"] == document["fusion"]
    assert document["assessment"]["serving"] == ""
    assert document["assessment"]["refused"] == []
    again = document_of("audit", "change", "--config", candidate)
    assert again["serving"] == again["candidate"] == document["fusion"]
    assert again["unreported"] == ["north/echo", "south/echo"]  # fuse asks no site
    assert "may be promoted" in run("audit", "change", "--config", candidate).output


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        ("{approvers: [bo]}", Code.APPROVER_UNKNOWN),
        ("{approvers: [ada], uncertain: refuse}", Code.CHANGE_REFUSED),
        ("{everywhere: {recall: {floor: 0.5}}}", Code.CONFIG_INVALID),
    ],
)
def test_a_refused_promotion_leaves_nothing_serving(candidate: Path, plan: str, code: Code) -> None:
    (candidate.parent / "change_plan.yaml").write_text(plan)
    words = ("promote", "--reason", "try", "--actor", "ada", "--config", candidate)
    result = run(*words, "--json")
    assert isinstance(result.exception, EchoFedError)
    assert result.exception.code is code
    assert result.exception.hint
    if code is Code.CHANGE_REFUSED:
        assert json.loads(result.stdout)["assessment"]["refused"]
        assert "too few" in run(*words).output
    assert document_of("status", "--config", candidate)["serving"] is None


def test_audit_order_tells_how_far_other_orders_lie_apart(candidate: Path) -> None:
    document = document_of("audit", "order", "--config", candidate)
    assert (document["variant"], document["spread"]) == ("ridge", 0.0)
    assert len(document["macro_f1"]) == 5


def test_a_promotion_needs_a_reason(finished: Path) -> None:
    assert run("promote", "--config", finished).exit_code == 2


def test_the_exit_code_is_the_errors_number_and_help_is_quick(tmp_path: Path) -> None:
    binary = Path(sys.executable).parent / "echofed-aggregator"
    if not binary.exists():
        pytest.skip("the command is not installed beside this interpreter")
    began = time.monotonic()
    done = subprocess.run(
        [str(binary), "status", "--config", str(tmp_path / "aggregator.yaml")],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == int(Code.CONFIG_MISSING)
    assert b"way out" in done.stderr
    assert time.monotonic() - began < 30


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)
