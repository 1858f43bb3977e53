"""The model registry: versions, aliases, promotion and rollback, without a server."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aggregator.model_registry import ModelRegistry
from shared.echo.expert import Block, FusionCard
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.models.fusion import ScoreFusion
from shared.models.fusion_weights import build_fusion, fusion_to_bytes

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BLOCKS = (Block("north-1", ("A4C", "A2C"), 3, 2), Block("south-1", ("PLAX",), 2, 2))


def fusion_of(seed: int) -> tuple[FusionCard, bytes]:
    fusion = ScoreFusion(BLOCKS, "discrepancy", seed=seed)
    weights = fusion_to_bytes(fusion)
    sha256 = sha256_hex(weights)
    card = FusionCard(
        id=f"fusion-{sha256[:12]}",
        variant="discrepancy",
        views=fusion.views,
        blocks=BLOCKS,
        weights_sha256=sha256,
        parent="",
        exports=("a", "b"),
        fresh=("north/echo",),
        cached=(),
        missing=(),
        seed=seed,
        settings_hash="0" * 64,
        settings={"epochs": 3, "serve": "best"},
        metrics={"val_macro_f1": 0.5},
        abstain_below=0.25,
        created="2026-01-01T00:00:00+00:00",
    )
    return card, weights


def open_registry(folder: Path) -> ModelRegistry:
    return ModelRegistry(f"sqlite:///{folder / 'mlflow.sqlite'}", folder / "mlflow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def registry(folder: Path) -> ModelRegistry:
    return open_registry(folder)


def test_nothing_is_current_before_the_first_fusion(tmp_path: Path) -> None:
    empty = open_registry(tmp_path)
    assert empty.versions() == ()
    for alias in ("candidate", "serving"):
        with pytest.raises(EchoFedError) as unknown:
            empty.current(alias)
        assert unknown.value.code == Code.MODEL_UNKNOWN
    with pytest.raises(EchoFedError) as nowhere:
        empty.rollback(actor="operator", reason="", now=NOW)
    assert nowhere.value.code == Code.MODEL_UNKNOWN


def test_a_fusion_goes_through_candidate_serving_and_back(registry: ModelRegistry) -> None:
    first, second = fusion_of(1), fusion_of(2)
    one = registry.log_fusion(*first, metrics={"test_macro_f1": 0.7}, origin="phantom")
    assert registry.current("candidate") == first
    assert registry.version_of("serving") is None
    registry.promote(one, actor="operator", reason="first", now=NOW)
    two = registry.log_fusion(*second, metrics={}, origin="phantom")
    assert registry.current("candidate") == second
    assert registry.current("serving") == first
    promotion = registry.promote(two, actor="operator", reason="better", now=NOW)
    assert (promotion.fusion, promotion.reason) == (second[0].id, "better")
    assert registry.current("serving") == second
    rolled = registry.rollback(actor="operator", reason="worse after all", now=NOW)
    assert rolled.version == one
    card, weights = registry.current("serving")
    assert (card, weights) == first
    assert build_fusion(card, weights).views == card.views
    assert [one.reason for one in registry.history()] == ["worse after all"]


def test_the_same_fusion_is_registered_once(registry: ModelRegistry) -> None:
    fusion = fusion_of(3)
    version = registry.log_fusion(*fusion, metrics={}, origin="phantom")
    assert registry.log_fusion(*fusion, metrics={}, origin="phantom") == version


def test_promoting_the_serving_version_again_leaves_the_way_back(registry: ModelRegistry) -> None:
    one = registry.log_fusion(*fusion_of(4), metrics={}, origin="phantom")
    two = registry.log_fusion(*fusion_of(5), metrics={}, origin="phantom")
    for version in (one, two, two):
        registry.promote(version, actor="operator", reason="again", now=NOW)
    assert registry.rollback(actor="operator", reason="back", now=NOW).version == one


def test_an_unknown_version_names_the_known_ones(registry: ModelRegistry) -> None:
    version = registry.log_fusion(*fusion_of(6), metrics={}, origin="phantom")
    with pytest.raises(EchoFedError) as unknown:
        registry.promote("999", actor="operator", reason="", now=NOW)
    assert unknown.value.code == Code.MODEL_UNKNOWN
    assert version in unknown.value.hint


def test_weights_that_do_not_match_their_card_are_not_registered(registry: ModelRegistry) -> None:
    card, weights = fusion_of(7)
    before = registry.versions()
    with pytest.raises(EchoFedError) as altered:
        registry.log_fusion(
            replace(card, weights_sha256="0" * 64), weights, metrics={}, origin="phantom"
        )
    assert altered.value.code == Code.CHECKPOINT_CORRUPT
    assert registry.versions() == before


def test_the_registry_outlives_its_process_without_a_pickle(
    registry: ModelRegistry, folder: Path
) -> None:
    fusion = fusion_of(8)
    registry.log_fusion(*fusion, metrics={}, origin="phantom")
    assert open_registry(folder).current("candidate") == fusion
    kinds = {path.suffix for path in (folder / "mlflow").rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors"}


def test_mlflow_is_not_imported_before_it_is_used() -> None:
    code = "import sys, aggregator.model_registry; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
