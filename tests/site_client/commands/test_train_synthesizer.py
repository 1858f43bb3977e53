"""``train --set task=synthesis``: a synthesizer, an entry in the ledger, a line of the status."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shared.ledger import Ledger
from site_client.cli import build_app

PART = """
options: {width: 8, mults: [1], hidden: 4}
autoencoder: {network: pixels}
sampler: {steps: 1}
image_size: 16
steps: 1
batch_size: 2
embedding_steps: 1
threads: 1
"""


@pytest.fixture
def config(traced_site: Any, tmp_path: Path) -> Path:
    store = traced_site(clips_per_patient=2, num_patients=12)
    path: Path = store.root / "site.yaml"
    path.write_text("site: north\ntask: synthesis\n")
    (tmp_path / "part.yaml").write_text(PART)
    return path


def document_of(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(build_app(), [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_synthesizer_is_trained_entered_and_shown(config: Path, tmp_path: Path) -> None:
    part = f"synthesizer=@{tmp_path / 'part.yaml'}"
    told = document_of("train", "--config", config, "--set", part)
    (entry,) = [
        entry for entry in Ledger(config.parent / "ledger.sqlite").entries()
        if entry.kind == "synthesizer.trained"
    ]  # fmt: skip
    assert entry.body == {
        name: told[name] for name in ("synthesizer", "sha256", "datasets", "parent")
    }
    (shown,) = document_of("status", "--config", config)["synthesizers"]
    assert shown["synthesizer"] == told["synthesizer"]
