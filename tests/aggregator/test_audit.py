"""The audit of a centre that ran a real increment, in one process."""

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from aggregator.audit import expert_scores, verify
from aggregator.centre import Centre, open_centre
from aggregator.change_control import assess
from aggregator.promotion import promote, register, registry_of
from shared.echo.expert import load_expert, save_checkpoint
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex


@pytest.fixture(scope="module")
def audited(grown: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A centre after an increment whose fusion serves, made once."""
    folder = tmp_path_factory.mktemp("audited")
    shutil.copytree(grown, folder, dirs_exist_ok=True)
    opened = open_centre(folder / "centre" / "aggregator.yaml")
    fusion = opened.state.fusions()[0].id
    register(opened, fusion)
    promote(opened, assess(opened, fusion), actor="ada", reason="first")
    opened.state.close()
    return folder


@pytest.fixture
def centre(tmp_path: Path, audited: Path) -> Iterator[Centre]:
    shutil.copytree(audited / "centre", tmp_path / "centre")
    opened = open_centre(tmp_path / "centre" / "aggregator.yaml")
    yield opened
    opened.state.close()


def broken(centre: Centre) -> EchoFedError:
    with pytest.raises(EchoFedError) as caught:
        verify(centre, registry_of(centre))
    return caught.value


def test_an_honest_record_holds(centre: Centre) -> None:
    document = verify(centre, registry_of(centre))
    assert (document["exports"], document["experts"], document["fusions"]) == (4, 2, 1)
    assert document["serving"] == centre.state.fusions()[0].id


def test_an_alias_moved_behind_the_ledgers_back_is_found(centre: Centre) -> None:
    client = MlflowClient(centre.tracking_uri, centre.tracking_uri)
    client.delete_registered_model_alias("echofed", "serving")
    assert broken(centre).code is Code.LEDGER_BROKEN


def test_an_altered_ledger_entry_is_found(centre: Centre) -> None:
    with sqlite3.connect(centre.folder / "ledger.sqlite") as connection:
        altered = "CAST(replace(CAST(body AS TEXT), 'ada', 'bob') AS BLOB)"
        connection.execute(f"UPDATE entries SET body = {altered}")
    connection.close()
    assert broken(centre).code is Code.LEDGER_BROKEN


def test_an_altered_export_is_found(centre: Centre) -> None:
    path = next((centre.folder / "bank").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert broken(centre).code is Code.CHECKPOINT_CORRUPT


def test_altered_weights_are_found(centre: Centre) -> None:
    path = next((centre.folder / "experts").glob("*/weights.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert broken(centre).code is Code.CHECKPOINT_CORRUPT


def test_an_expert_that_no_entry_tells_of_is_found(centre: Centre) -> None:
    known, weights = load_expert(centre.expert_folder(centre.state.experts()[0].id))
    padded = weights + b" "
    card = replace(known, id="slipped-in", weights_sha256=sha256_hex(padded))
    save_checkpoint(centre.expert_folder(card.id), card, padded)
    centre.state.add_expert(card, now=datetime.now(UTC))
    assert broken(centre).code is Code.LEDGER_BROKEN


def test_id_scores_are_shown_by_expert_and_dataset_here_and_at_the_sites(centre: Centre) -> None:
    document = expert_scores(centre)
    experts = {row.id for row in centre.state.experts()}
    by_dataset = document["id_scores"]["discrepancy"]
    assert {frozenset(one) for one in by_dataset.values()} == {frozenset(experts)}
    assert set(document["at_sites"]) == {"north/echo", "south/echo"}


def test_the_scorecard_of_every_fuse_is_shown_to_auditors(centre: Centre) -> None:
    document = expert_scores(centre)
    experts = {row.id for row in centre.state.experts()}
    assert set(document["scorecard"]["experts"]) == experts
    # two patients a view in training: the layers' discrepancy and the id scores remain
    assert document["scorecard"]["refused"] == dict.fromkeys(experts, "TOO_FEW_PATIENTS")
    assert set(document["scorecard"]["average"]) == {
        "discrepancy",
        "id score discrepancy",
        "fused id discrepancy",
    }
    for one in document["calibration"]["discrepancy"].values():
        assert one["excess"] == pytest.approx(one["error"] - one["expected"])


def test_the_depths_of_the_served_variant_are_shown(centre: Centre) -> None:
    document = expert_scores(centre)
    assert set(document["depths"]) == {"north/echo", "south/echo"}
    for by_depth in document["depths"].values():
        assert set(by_depth) == {"window", "plane", "leaf"}
        assert len({one["num_clips"] for one in by_depth.values()}) == 1


def test_without_a_fusion_there_are_no_scores(tmp_path: Path) -> None:
    (tmp_path / "aggregator.yaml").write_text("version: 1")
    with pytest.raises(EchoFedError) as caught:
        expert_scores(open_centre(tmp_path / "aggregator.yaml"))
    assert caught.value.code is Code.NOTHING_TO_DO
