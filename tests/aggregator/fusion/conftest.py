"""Banks of Gaussian experts, joined once for all tests of the fusion."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aggregator.feature_bank import FeatureBank
from aggregator.joined_rows import JoinedRows
from shared.testing.exports import GaussianWorld

WORLD = GaussianWorld(
    {
        "north": ("A4C", "A2C", "PLAX"),
        "south": ("A4C", "PSAX-AV", "PSAX-PM"),
        "east": ("A2C", "A3C", "PLAX"),
        "west": ("SC-4C", "A3C", "A4C"),
    },
    num_clips=40,
    noise=1.0,
    feature_width=16,
)


def join(
    root: Path,
    world: GaussianWorld,
    sites: Sequence[str],
    *,
    without: Sequence[tuple[str, str]] = (),
) -> JoinedRows:
    bank = FeatureBank(root)
    for site in sites:
        for expert in sites:
            if (site, expert) not in without:
                data = world.export(site, expert).to_bytes()
                bank.add(data, world.experts(), now=datetime(2026, 1, 2, tzinfo=UTC))
    return bank.join([world.expert(site).id for site in sites])


@pytest.fixture(scope="session")
def world() -> GaussianWorld:
    return WORLD


@pytest.fixture(scope="session")
def joined_by_number(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, JoinedRows]:
    """Number of sites -> rows of all their datasets as seen by all their experts."""
    return {
        num: join(tmp_path_factory.mktemp(f"bank{num}"), WORLD, list(WORLD.views)[:num])
        for num in (1, 3, 4)
    }


@pytest.fixture(scope="session")
def joined(joined_by_number: Mapping[int, JoinedRows]) -> JoinedRows:
    return joined_by_number[3]


@pytest.fixture(scope="session")
def incomplete(tmp_path_factory: pytest.TempPathFactory) -> JoinedRows:
    """North is away: the expert of east has not seen its frames."""
    sites = list(WORLD.views)[:3]
    return join(tmp_path_factory.mktemp("incomplete"), WORLD, sites, without=[("north", "east")])
