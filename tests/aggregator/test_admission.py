"""A model is admitted whole or not at all, and only a person with a reason moves its alias."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from typer.testing import CliRunner

from aggregator.admission import Registered, register_model
from aggregator.centre import Centre, alone, open_centre
from aggregator.cli import build_app
from aggregator.promotion import registry_of
from aggregator.serving import WITHDRAWAL_BEGUN, served_models, withdrawn_models
from aggregator.withdrawal import withdraw
from shared.echo.model_card import ModelCard, ModelKind, load_model_files, save_model
from shared.echo.segmenter import SegmenterCard, load_segmenter_files, save_segmenter
from shared.echo.synthesizer import SynthesizerCard, save_synthesizer
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes, sha256_hex
from shared.synthesis.semantic import GALLERY
from shared.testing.segmenters import untrained_segmenter
from shared.testing.synthesizers import untrained_synthesizer

MASKS = "segmentation-masks"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A centre whose registry was opened once, for that takes seconds."""
    folder = tmp_path_factory.mktemp("centre")
    config = folder / "aggregator.yaml"
    config.write_text(yaml.safe_dump({}))
    made = open_centre(config)
    registry_of(made).versions()
    made.state.close()
    return folder


@pytest.fixture
def config(tmp_path: Path, empty: Path) -> Path:
    shutil.copytree(empty, tmp_path / "centre")
    return tmp_path / "centre" / "aggregator.yaml"


@pytest.fixture
def centre(config: Path) -> Iterator[Centre]:
    opened = open_centre(config)
    yield opened
    opened.state.close()


def brought(folder: Path, card: ModelCard, weights: bytes) -> Path:
    """A folder as a person carries it."""
    save_model(folder / card.id, card, weights)
    return folder / card.id


def num_logged(centre: Centre, model: str, *, kind: ModelKind = "segmenter") -> int:
    """How many runs of a model MLflow has."""
    from mlflow import MlflowClient

    client = MlflowClient(centre.tracking_uri)
    experiment = client.get_experiment_by_name(centre.settings.federation.name)
    return len(client.search_runs([experiment.experiment_id], f"tags.{kind} = '{model}'"))


def kinds(centre: Centre) -> list[str]:
    return [entry.kind for entry in centre.ledger.entries()]


def admit(
    centre: Centre, path: Path, *, alias: str = "", reason: str = "", actor: str = "ada"
) -> Registered:
    return register_model(centre, path, alias=alias, actor=actor, reason=reason)


def refusal(centre: Centre, path: Path, **how: str) -> Code:
    before = kinds(centre)
    with pytest.raises(EchoFedError) as caught:
        admit(centre, path, **how)
    assert kinds(centre) == before
    return caught.value.code


def test_an_averaged_segmenter_goes_by_the_datasets_of_its_sites(
    centre: Centre, tmp_path: Path
) -> None:
    names = ("north/echo", "south/echo")
    card, weights = untrained_segmenter(1, site="echofed", datasets=names)
    admit(centre, brought(tmp_path, card, weights), alias="averaged-masks")
    assert served_models(centre.ledger)[card.id].datasets == names
    centre.ledger.append(WITHDRAWAL_BEGUN, {"dataset": "south/echo"}, actor="ada")
    assert not served_models(centre.ledger)


def test_a_segmenter_is_kept_logged_and_recorded_and_once_only(
    centre: Centre, tmp_path: Path
) -> None:
    card, weights = untrained_segmenter(1)
    path = brought(tmp_path, card, weights)
    done = admit(centre, path / "card.json")
    assert (done.alias, done.before, done.is_new, done.is_moved) == (MASKS, "", True, True)
    assert load_segmenter_files(centre.model_folder("segmenter", card.id)) == (card, weights)
    assert num_logged(centre, card.id) == 1
    assert kinds(centre) == ["segmenter.registered", "segmenter.promoted"]
    again = admit(centre, path)
    assert (again.is_new, again.is_moved) == (False, False)
    assert len(kinds(centre)) == 2
    assert num_logged(centre, card.id) == 1


def test_an_alias_moves_with_reason_and_actor_and_the_one_before_stays(
    centre: Centre, tmp_path: Path
) -> None:
    old, new = (untrained_segmenter(seed) for seed in (1, 2))
    first, second = brought(tmp_path, *old), brought(tmp_path, *new)
    admit(centre, first)
    assert refusal(centre, second) is Code.CONFIG_INVALID
    assert admit(centre, second, reason="better", actor="bo").before == old[0].id
    last = list(centre.ledger.entries())[-1]
    told = {"alias": MASKS, "segmenter": new[0].id, "before": old[0].id, "reason": "better"}
    assert (last.actor, last.body) == ("bo", told)
    admit(centre, centre.model_folder("segmenter", old[0].id), reason="back")
    admit(centre, second, alias="trial")
    found = {one.model: one.aliases for one in served_models(centre.ledger).values()}
    assert found == {old[0].id: (MASKS,), new[0].id: ("trial",)}


def test_what_earlier_releases_wrote_into_the_ledger_still_serves(centre: Centre) -> None:
    body = {"segmenter": "north-unet-1", "sha256": "00", "site": "north", "origin": "real"}
    more = {"answers": "masks", "datasets": ["north/echo"], "parent": ""}
    centre.ledger.append("segmenter.registered", body | more, actor="ada")
    moved = {"alias": MASKS, "segmenter": "north-unet-1", "before": "", "reason": ""}
    centre.ledger.append("segmenter.promoted", moved, actor="ada")
    (one,) = served_models(centre.ledger).values()
    assert (one.kind, one.model, one.answers) == ("segmenter", "north-unet-1", "masks")
    assert (one.aliases, one.datasets) == ((MASKS,), ("north/echo",))
    assert centre.model_folder(one.kind, one.model) == centre.folder / "segmenters/north-unet-1"


def test_a_segmenter_of_contours_has_an_alias_of_its_own(centre: Centre, tmp_path: Path) -> None:
    outline = untrained_segmenter(
        3, answers="contours", network="contour_net", structures=("lv",), num_landmarks=7
    )
    assert admit(centre, brought(tmp_path, *outline)).alias == "segmentation-contours"


def test_a_synthesizer_is_admitted_by_the_same_command_under_its_own_alias(
    config: Path, centre: Centre, tmp_path: Path
) -> None:
    card, weights = untrained_synthesizer(1)
    path = brought(tmp_path, card, weights)
    words = ["register", str(path), "--json", "--config", str(config)]
    result = CliRunner().invoke(build_app(), words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["synthesizer"], told["alias"], told["views"]) == (
        card.id, "synthesis", list(card.views),
    )  # fmt: skip
    assert load_model_files(centre.model_folder("synthesizer", card.id)) == (card, weights)
    assert kinds(centre) == ["synthesizer.registered", "synthesizer.promoted"]
    assert num_logged(centre, card.id, kind="synthesizer") == 1
    assert not admit(centre, path).is_new
    status = CliRunner().invoke(build_app(), ["status", "--json", "--config", str(config)])
    (line,) = json.loads(status.stdout)["synthesizers"]
    assert (line["synthesizer"], line["aliases"]) == (card.id, ["synthesis"])
    assert json.loads(status.stdout)["segmenters"] == []


def test_an_alias_does_not_move_to_a_model_of_another_kind(centre: Centre, tmp_path: Path) -> None:
    admit(centre, brought(tmp_path, *untrained_segmenter(1)))
    path = brought(tmp_path, *untrained_synthesizer(1))
    assert refusal(centre, path, alias=MASKS, reason="it draws") is Code.CONFIG_INVALID


def with_gallery(gallery_GD: NDArray[np.float32]) -> Any:
    def spoil(card: SynthesizerCard, weights: bytes) -> tuple[SynthesizerCard, bytes]:
        arrays = arrays_from_bytes(weights)[0] | {GALLERY: gallery_GD}
        spoilt = arrays_to_bytes(arrays, {})
        return replace(card, weights_sha256=sha256_hex(spoilt)), spoilt

    return spoil


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda card, weights: (card, weights[:-1]), Code.CHECKPOINT_CORRUPT),
        (lambda card, weights: (replace(card, options={"wid": 8}), weights), Code.CONFIG_INVALID),
        (lambda card, weights: (replace(card, network="sspade"), weights), Code.NAME_UNKNOWN),
        (lambda card, weights: (replace(card, kind="expert"), weights), Code.MODEL_UNKNOWN),
        (with_gallery(np.ones((2, 3), np.float32)), Code.FEATURES_INVALID),
        (with_gallery(np.full((2, 3), np.nan, np.float32)), Code.FEATURES_NOT_FINITE),
    ],
)
def test_a_synthesizer_that_does_not_fit_is_refused_and_leaves_nothing(
    centre: Centre, tmp_path: Path, spoil: Any, code: Code
) -> None:
    save_synthesizer(tmp_path / "x", *spoil(*untrained_synthesizer(1)))
    assert refusal(centre, tmp_path / "x") is code
    assert not (centre.folder / "synthesizers").exists()


def not_finite(card: SegmenterCard, weights: bytes) -> tuple[SegmenterCard, bytes]:
    arrays, _ = arrays_from_bytes(weights)
    next(iter(arrays.values())).flat[0] = np.nan
    spoilt = arrays_to_bytes(arrays, {})
    return replace(card, weights_sha256=sha256_hex(spoilt)), spoilt


def with_options(**options: int) -> Any:
    return lambda card, weights: (replace(card, options=options), weights)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda card, weights: (card, weights[:-1]), Code.CHECKPOINT_CORRUPT),
        (with_options(width=16, depth=1), Code.CHECKPOINT_CORRUPT),
        (with_options(breadth=8), Code.CHECKPOINT_CORRUPT),
        (with_options(width=8, depth=0), Code.CONFIG_INVALID),
        (lambda card, weights: (replace(card, network="unett"), weights), Code.NAME_UNKNOWN),
        (lambda card, weights: (replace(card, version=99), weights), Code.CARD_NEWER),
        (lambda card, weights: (replace(card, id="../ca"), weights), Code.WIRE_INVALID),
        (not_finite, Code.FEATURES_NOT_FINITE),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    centre: Centre, tmp_path: Path, spoil: Any, code: Code
) -> None:
    save_segmenter(tmp_path / "x", *spoil(*untrained_segmenter(1)))
    assert refusal(centre, tmp_path / "x") is code
    assert not (centre.folder / "segmenters").exists()


@pytest.mark.parametrize("alias", ["serving", "candidate", "Masks", "../x", "a b"])
def test_an_alias_that_means_something_else_is_refused(
    centre: Centre, tmp_path: Path, alias: str
) -> None:
    path = brought(tmp_path, *untrained_segmenter(1))
    assert refusal(centre, path, alias=alias) is Code.CONFIG_INVALID


def test_the_id_of_one_cannot_be_taken_by_another(centre: Centre, tmp_path: Path) -> None:
    card, weights = untrained_segmenter(1)
    admit(centre, brought(tmp_path, card, weights))
    other = replace(untrained_segmenter(2)[0], id=card.id), untrained_segmenter(2)[1]
    assert refusal(centre, brought(tmp_path / "b", *other)) is Code.IDENTITY_MISMATCH
    assert load_segmenter_files(centre.model_folder("segmenter", card.id)) == (card, weights)


def test_no_segmenter_is_called_as_something_that_is_asked_for(
    centre: Centre, tmp_path: Path
) -> None:
    """A site that asks for the fusion, or for an alias, would get it instead."""
    admit(centre, brought(tmp_path, *untrained_segmenter(1)))
    card, weights = untrained_segmenter(2, site="south")
    for name in ("serving", MASKS, "trial"):
        path = brought(tmp_path / "b", replace(card, id=name), weights)
        assert refusal(centre, path, alias="trial") is Code.IDENTITY_MISMATCH
        assert not centre.model_folder("segmenter", name).exists()


def test_a_card_that_was_registered_stays_as_it_was_unless_the_disk_lost_it(
    centre: Centre, tmp_path: Path
) -> None:
    card, weights = untrained_segmenter(1)
    path, folder = brought(tmp_path, card, weights), centre.model_folder("segmenter", card.id)
    admit(centre, path)
    changes: list[dict[str, Any]] = [{"origin": "real"}, {"datasets": ("b",)}, {"options": {}}]
    for change in changes:
        other = brought(tmp_path / "b", replace(card, **change), weights)
        assert refusal(centre, other) is Code.IDENTITY_MISMATCH
        assert load_segmenter_files(folder) == (card, weights)
    shutil.rmtree(folder)
    assert not admit(centre, path).is_new
    assert load_segmenter_files(folder) == (card, weights)


def test_nothing_is_registered_while_a_withdrawal_runs(centre: Centre, tmp_path: Path) -> None:
    path = brought(tmp_path, *untrained_segmenter(1))
    with alone(centre):
        assert refusal(centre, path) is Code.RUN_FAILED


def test_a_withdrawal_takes_the_segmenters_of_its_dataset_and_their_children(
    centre: Centre, tmp_path: Path
) -> None:
    parent, child, other = (
        untrained_segmenter(1),
        untrained_segmenter(2, site="south", dataset="b"),
        untrained_segmenter(3, dataset="c"),
    )
    child = (replace(child[0], parent=parent[0].id), child[1])
    for made in (parent, child, other):
        admit(centre, brought(tmp_path, *made), alias=f"of-{made[0].seed}")
    report = withdraw(centre, "north/echo", actor="ada", clock=lambda: NOW)
    assert set(served_models(centre.ledger)) == {other[0].id}
    assert [path.name for path in (centre.folder / "segmenters").iterdir()] == [other[0].id]
    gone = {one.id: one.weights_sha256 for one in (parent[0], child[0])}
    assert report["certificate"]["purged_segmenters"] == gone
    (went,) = withdrawn_models(centre.ledger).values()
    assert {one.model: one.sha256 for one in went} == gone
    assert not num_logged(centre, child[0].id)
    late = untrained_segmenter(4)
    grandchild = replace(untrained_segmenter(5, dataset="c")[0], parent=child[0].id)
    for made in (parent, child, late, (grandchild, untrained_segmenter(5, dataset="c")[1])):
        assert refusal(centre, brought(tmp_path, *made)) is Code.DATASET_WITHDRAWN
    assert kinds(centre).count(WITHDRAWAL_BEGUN) == 1


def test_a_withdrawal_takes_the_synthesizers_of_its_dataset_and_their_children(
    centre: Centre, tmp_path: Path
) -> None:
    parent, other = untrained_synthesizer(1), untrained_synthesizer(3, dataset="c")
    child, weights = untrained_synthesizer(2, site="south", dataset="b")
    for made in (parent, (replace(child, parent=parent[0].id), weights), other):
        admit(centre, brought(tmp_path, *made), alias=f"of-{made[0].seed}")
    report = withdraw(centre, "north/echo", actor="ada", clock=lambda: NOW)
    assert set(served_models(centre.ledger)) == {other[0].id}
    assert [path.name for path in (centre.folder / "synthesizers").iterdir()] == [other[0].id]
    gone = {one.id: one.weights_sha256 for one in (parent[0], child)}
    assert report["certificate"]["purged_synthesizers"] == gone
    assert report["certificate"]["purged_segmenters"] == {}
    assert not num_logged(centre, child.id, kind="synthesizer")
    assert num_logged(centre, other[0].id, kind="synthesizer") == 1
    assert refusal(centre, brought(tmp_path, *parent)) is Code.DATASET_WITHDRAWN


def test_the_command_says_what_it_did_and_status_lists_it(
    config: Path, centre: Centre, tmp_path: Path
) -> None:
    card, weights = untrained_segmenter(1)
    words = ["register", str(brought(tmp_path, card, weights)), "--json", "--config", str(config)]
    result = CliRunner().invoke(build_app(), words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["segmenter"], told["alias"], told["origin"]) == (card.id, MASKS, "phantom")
    status = ["status", "--config", str(config)]
    (line,) = json.loads(CliRunner().invoke(build_app(), [*status, "--json"]).stdout)["segmenters"]
    assert (line["segmenter"], line["origin"], line["aliases"]) == (card.id, "phantom", [MASKS])
    assert MASKS in CliRunner().invoke(build_app(), status).stdout
