"""Federated averaging with real processes: two hospitals with masks, two rounds, over TLS."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from shared.echo.manifest import SPLITS, ClipRecord, DatasetManifest
from shared.echo.segmenter import load_segmenter_files
from shared.ledger import Ledger
from shared.testing.commands import run_command, serving, set_options
from shared.testing.ventricle import STRUCTURES, draw_ventricle
from site_client.clip_file import StoredClip, save_clip
from site_client.store import SiteStore

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]

SITES = ("north", "south")
SMALL = {
    "segmenter.width": 8,
    "segmenter.depth": 1,
    "segmenter.patch": 2,
    "segmenter.image_size": 32,
    "segmenter.batch_size": 4,
}


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("averaging")
    before = set(psutil.Process().children(recursive=True))
    with ExitStack() as stack:
        yield folder, play(folder, stack)
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [one for one in left if one.is_running()]


def play(folder: Path, stack: ExitStack) -> dict[str, Any]:
    centre = folder / "aggregator.yaml"
    ports = set_options({"federation.port": 0, "federation.superlink_port": 0, **SMALL})
    made = run_command("echofed-aggregator", "init", *ports, config=centre)
    log = folder / "centre.log"
    stack.enter_context(serving(log, "echofed-aggregator", "federate", config=centre))
    for place, name in enumerate(SITES):
        enrol(folder, name, centre, str(made["bundle"]))
        trace(SiteStore(folder / name), name, seed=place)
        config = folder / name / "site.yaml"
        log = folder / f"{name}.log"
        stack.enter_context(serving(log, "echofed-site", "federate", config=config))
    words = ("average", "--rounds", 2)
    return run_command("echofed-aggregator", *words, config=centre)


def enrol(folder: Path, name: str, centre: Path, bundle: str) -> None:
    """Bring a site in and let weights that learn from its masks go."""
    home, config = folder / name, folder / name / "site.yaml"
    home.mkdir()
    out = ("--out", home)
    run_command("echofed-aggregator", "enrol", name, *out, config=centre)
    threads = set_options({"segmenter.threads": 1})
    run_command("echofed-site", "init", home / f"{name}.kit", *threads, config=config)
    answer = ("--approve", home / f"{name}.request", *out)
    run_command("echofed-aggregator", "enrol", *answer, config=centre)
    run_command("echofed-site", "init", home / f"{name}.certificate", config=config)
    consent = {
        "purposes": ["segmentation"],
        "recipients": ["echofed"],
        "artefacts": ["segmenter_weights"],
        "minimum_patients_per_view": 2,
    }
    policy = {"version": 1, "revision": 2, "datasets": {"traced": consent}}
    (home / "policy.yaml").write_text(yaml.safe_dump(policy | {"approved_bundles": [bundle]}))


def trace(store: SiteStore, site: str, *, seed: int) -> None:
    """Give a site eight patients with one traced picture each."""
    generator, clips = np.random.default_rng(seed), []
    for patient in range(8):
        pixels_HW, annotation = draw_ventricle(generator)
        clip = StoredClip(pixels_HW[None], None, (2.0, 2.0), None, annotation=annotation)
        key, split = f"traced-{patient}", SPLITS[(0, 0, 0, 1)[patient % 4]]
        sha256 = save_clip(store.clip_path("traced", key), clip)
        file = f"clips/{key}.safetensors"
        clips.append(
            ClipRecord(
                key, f"p{patient}", "4CH", split, 1, file, sha256, has_mask=False,
                structures=STRUCTURES,
            )
        )  # fmt: skip
    words: dict[str, tuple[str, ...]] = {"4CH": ("A4C",)}
    store.save_manifest(
        DatasetManifest("traced", site, "phantom", "traced", words, tuple(clips), "screen")
    )


def test_two_rounds_over_two_sites_give_a_registered_segmenter(
    averaged: tuple[Path, dict[str, Any]],
) -> None:
    folder, told = averaged
    assert [sorted(one["shares"]) for one in told["rounds"]] == [["north", "south"]] * 2
    assert (told["absent"], told["refused"]) == ({}, [])
    card, _ = load_segmenter_files(folder / "segmenters" / told["segmenter"])
    assert card.datasets == ("north/traced", "south/traced")
    assert {"north/val_dice", "south/val_dice", "val_dice"} <= card.metrics.keys()


def test_the_ledgers_tell_the_same_story(averaged: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = averaged
    centre = [entry.kind for entry in Ledger(folder / "ledger.sqlite").entries()]
    assert centre.count("segmenter.averaged") == 2
    assert centre.count("segmenter_update.arrived") == 4
    assert centre.count("segmenter.registered") == 1
    sent = Ledger(SiteStore(folder / "north").ledger_path).entries()
    left = [e.body["artefact"] for e in sent if e.kind == "egress.sent"]
    assert left.count("segmenter_weights") == 2
