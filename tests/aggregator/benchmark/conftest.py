"""A stored stream of Gaussian experts, made once."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aggregator.benchmark.stream import (
    STREAM_FILE,
    STREAM_VERSION,
    Arrival,
    Stream,
    StreamRecord,
    open_stream,
)
from aggregator.feature_bank import FeatureBank
from shared.echo.origin import ImagedOrigin
from shared.echo.schema import to_document
from shared.files import write_json
from shared.testing.exports import GaussianWorld

WORLD = GaussianWorld(
    {
        "north": ("A4C", "A2C", "PLAX"),
        "south": ("A4C", "PSAX-AV", "PSAX-PM"),
        "west": ("SC-4C", "A3C", "A4C"),
    },
    num_clips=40,
    noise=1.0,
    feature_width=16,
)


def store_stream(
    folder: Path,
    world: GaussianWorld,
    *,
    name: str = "gaussian",
    origin: ImagedOrigin = "phantom",
    foreign: str = "",
) -> Stream:
    bank = FeatureBank(folder / "bank")
    for site in world.views:
        for expert in world.views:
            bank.add(
                world.export(site, expert).to_bytes(),
                world.experts(),
                now=datetime(2026, 1, 2, tzinfo=UTC),
            )
    record = StreamRecord(
        name=name,
        seed=world.seed,
        origin=origin,
        arrivals=tuple(
            Arrival(
                f"{site}/{site}-echo",
                world.content_hash(site),
                "" if site == foreign else world.expert(site).id,
                is_foreign=site == foreign,
            )
            for site in world.views
        ),
        joint="",
        steps=(),
        recipe="",
        version=STREAM_VERSION,
    )
    write_json(folder / STREAM_FILE, to_document(record))
    return open_stream(folder)


@pytest.fixture(scope="session")
def world_stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    return store_stream(tmp_path_factory.mktemp("stream"), WORLD)


@pytest.fixture(scope="session")
def stored_streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two seeds of a phantom stream, and one of a stream that is said to be real."""
    folder = tmp_path_factory.mktemp("streams")
    for seed in (2, 10):
        world = replace(WORLD, seed=seed, num_clips=20, num_passes=0)
        store_stream(folder / "gaussian" / f"seed-{seed}", world)
    organs = folder / "organs" / "seed-10"
    store_stream(organs, world, name="organs", origin="real", foreign="west")
    return folder
