"""A synthesizer behind real processes: ordered from another one, over mutual TLS.

A job is under way when its host is killed and begun again, another is cancelled, orders that make
no sense are refused, and at last the dataset that it was trained on is withdrawn.
"""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import typer
import yaml
from typer.testing import CliRunner

from aggregator import cli as aggregator_cli
from aggregator.centre import open_centre
from aggregator.enrolment import approve, invite
from shared.echo.manifest import DatasetManifest
from shared.echo.synthesizer import save_synthesizer
from shared.errors import Code, EchoFedError
from shared.flower import stop_tree
from shared.rpc.channel import Channel
from shared.services.drawings import messages_of_drawing
from shared.services.remote_synthesis import (
    cancel_synthesis,
    fetch_drawings,
    submit_synthesis,
    synthesize_remotely,
    watch_synthesis,
)
from shared.synthesis.answer import draw_order
from shared.synthesis.maps import phantom_maps
from shared.synthesis.order import Drawing, Order, Part, Variation
from shared.synthesis.semantic import build_synthesizer
from shared.testing.commands import run_command, set_options, start_command
from shared.testing.synthesizers import untrained_synthesizer
from site_client import cli as site_cli
from site_client.connection import open_services
from site_client.federate import free_port
from site_client.identity import accept_certificate, join
from site_client.policy import Policy, save_policy
from site_client.settings import CentreSettings
from site_client.store import SiteStore
from site_client.synthesize.here import LocalDrawer

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(900)]

NOW = datetime.now(UTC)
TIMEOUT_S = 300.0
CARD, WEIGHTS = untrained_synthesizer(1, release_threshold=2.0)
OTHER, OTHER_WEIGHTS = untrained_synthesizer(2, release_threshold=2.0)
MAPS = phantom_maps(2, 7, CARD.image_size, views=("A4C",), structures=CARD.structures).labels_NSS
SENT = Order("A4C", labels_NHW=MAPS, structures=CARD.structures, seed=5)
LONG = Order("A4C", variation=Variation(24, 3), seed=5, steps=64)  # four images at a time
BAD: Mapping[str, tuple[Order, Code]] = {
    "empty": (replace(SENT, labels_NHW=np.zeros_like(MAPS)), Code.SECTOR_EMPTY),
    "no heart": (replace(SENT, labels_NHW=np.ones_like(MAPS)), Code.MAP_IMPLAUSIBLE),
    "no square": (replace(SENT, labels_NHW=MAPS[:, :16]), Code.SHAPE_MISMATCH),
    "unknown structure": (replace(SENT, structures=("outside", "liver")), Code.LABEL_UNMAPPED),
    "absurd steps": (replace(SENT, steps=10**6), Code.CONFIG_INVALID),
    "unknown solver": (replace(SENT, solver="magic"), Code.CONFIG_INVALID),
    "unknown view": (replace(SENT, view="PLAX"), Code.VIEW_UNKNOWN),
    "too many": (replace(SENT, variation=Variation(10**6)), Code.REQUEST_TOO_LARGE),
    "unknown model": (replace(SENT, alias="severing"), Code.MODEL_UNKNOWN),
    "unreleased model": (replace(SENT, alias=OTHER.id), Code.MODEL_UNKNOWN),
}


@dataclass
class Told:
    """What came out of the story."""

    before: list[Part] = field(default_factory=list)
    begun: int = 0
    interrupted: list[Part] = field(default_factory=list)
    after: list[Part] = field(default_factory=list)
    refused: dict[str, Code] = field(default_factory=dict)
    jobs: list[set[str]] = field(default_factory=list)
    cancelled: tuple[str, Code | None] = ("", None)
    results_left: int = 0
    drawn: DatasetManifest | None = None
    document: dict[str, Any] = field(default_factory=dict)
    is_same: bool = False
    site_codes: dict[str, int] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    carried: bool = False
    withdrawn: Code | None = None
    orphans: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("synthesis")
    story, before = Told(), set(psutil.Process().children(recursive=True))
    config, port = folder / "centre" / "aggregator.yaml", free_port()
    ports = {"federation.port": 0, "federation.superlink_port": 0, "services.port": port}
    code_in(aggregator_cli.build_app(), "init", *set_options(ports), config=config)
    save_synthesizer(folder / CARD.id, CARD, WEIGHTS)
    run_command("echofed-aggregator", "register", folder / CARD.id, config=config)
    store, centre = enrolled(folder, config, port)
    hosts = [host_of(folder, config)]
    try:
        with open_services(store, centre, now=NOW, deadline_s=TIMEOUT_S) as channel:
            story.before = list(synthesize_remotely(channel, SENT))
            hosts.append(kill_in_mid_job(folder, config, channel, story, hosts[0]))
            story.after = list(synthesize_remotely(channel, SENT))
            cancel_in_mid_job(folder, channel, story)
            refuse(folder, channel, story)
            at_a_site(folder, store, story)
            centre_app = aggregator_cli.build_app()
            story.site_codes["withdraw"] = code_in(
                centre_app, "withdraw", "north/echo", config=config
            )
            story.withdrawn = code_of(lambda: submit_synthesis(channel, SENT))
    finally:
        for host in hosts:
            stop_tree(host, timeout_s=30)
    left = set(psutil.Process().children(recursive=True)) - before
    story.orphans = [" ".join(process.cmdline()) for process in left if process.is_running()]
    return story


def host_of(folder: Path, config: Path) -> "subprocess.Popen[bytes]":
    serve = ("serve", "--services", "models,synthesis")
    return start_command(folder / "centre.log", "echofed-aggregator", *serve, config=config)


def enrolled(folder: Path, config: Path, port: int) -> tuple[SiteStore, CentreSettings]:
    """A site that was enrolled as sites are; its policy lets nothing go."""
    store = SiteStore(folder / "north")
    store.create_key()
    centre = open_centre(config)
    kit = invite(centre.authority, "north", address="127.0.0.1:1", federation="test", now=NOW)
    request = join(store.identity_folder, kit, now=NOW)
    _, document = approve(centre.authority, request, federation="test", now=NOW)
    accept_certificate(store.identity_folder, document)
    centre.state.close()
    save_policy(Policy(), store.root / "policy.yaml")
    settings = CentreSettings(
        address="127.0.0.1:1", federation="test", services=f"127.0.0.1:{port}"
    )
    tree = {"site": "north", "centre": settings.model_dump()}
    (store.root / "site.yaml").write_text(yaml.safe_dump(tree))
    return store, settings


def kill_in_mid_job(
    folder: Path, config: Path, channel: Channel, story: Told, host: "subprocess.Popen[bytes]"
) -> "subprocess.Popen[bytes]":
    """Kill the host when the first images are drawn; the caller watches on."""
    id = submit_synthesis(channel, LONG)
    for status in watch_synthesis(channel, id):
        if status.done:
            story.begun = status.done
            break
    host.kill()
    host.wait(TIMEOUT_S)
    again = host_of(folder, config)
    assert list(watch_synthesis(channel, id, num_retries=60))[-1].state == "done"
    story.interrupted = list(fetch_drawings(channel, id, num_retries=60))
    return again


def cancel_in_mid_job(folder: Path, channel: Channel, story: Told) -> None:
    id = submit_synthesis(channel, LONG)
    next(status for status in watch_synthesis(channel, id) if status.done)
    cancel_synthesis(channel, id)
    state = list(watch_synthesis(channel, id))[-1].state
    story.cancelled = state, code_of(lambda: list(fetch_drawings(channel, id)))
    story.results_left = len(list((jobs_of(folder) / id).glob("*result*")))


def refuse(folder: Path, channel: Channel, story: Told) -> None:
    story.jobs.append(names_in(jobs_of(folder)))
    for name, (order, _) in BAD.items():
        story.refused[name] = code_of(lambda order=order: submit_synthesis(channel, order))
    story.jobs.append(names_in(jobs_of(folder)))


def at_a_site(folder: Path, store: SiteStore, story: Told) -> None:
    """The site's own command, which knows nothing of the synthesizer."""
    config = store.root / "site.yaml"
    words = ("synthesize", "--maps", "phantom", "--view", "A4C", "--num", "12", "--at", "centre")
    done = run_command("echofed-site", *words, "--dataset", "drawn", config=config)
    story.document, story.drawn = done, store.manifest("drawn")
    save_synthesizer(store.synthesizer_folder(OTHER.id), OTHER, OTHER_WEIGHTS)
    for name, more in (
        ("again", (*words, "--dataset", "drawn")),
        ("unknown model", (*words, "--dataset", "none", "--model", "severing")),
        ("unreleased model", (*words, "--dataset", "none", "--model", OTHER.id)),
        ("export", ("export", folder / "carried", "--synthesizer", OTHER.id)),
    ):
        story.site_codes[name] = code_in(site_cli.build_app(), *more, config=config)
    story.is_same = store.manifest("drawn") == story.drawn
    story.datasets, story.carried = store.datasets(), (folder / "carried").exists()


def jobs_of(folder: Path) -> Path:
    return folder / "centre" / "jobs" / "synthesis"


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def code_of(call: Any) -> Code:
    with pytest.raises(EchoFedError) as refused:
        call()
    return refused.value.code


def code_in(app: typer.Typer, *words: object, config: Path) -> int:
    """What a command ends with, typed in this process."""
    result = CliRunner().invoke(app, [*map(str, words), "--config", str(config)])
    error = result.exception
    return int(error.code) if isinstance(error, EchoFedError) else result.exit_code


def here(order: Order) -> list[Part]:
    """The same synthesizer in this process."""
    return list(draw_order(LocalDrawer(build_synthesizer(CARD, WEIGHTS)), order))


def drawings(parts: list[Part]) -> Iterator[Drawing]:
    return (part for part in parts if isinstance(part, Drawing))


def as_bytes(parts: list[Part]) -> list[bytes]:
    return [message.SerializeToString() for part in parts for message in messages_of_drawing(part)]


def expect_alike(one: list[Part], other: list[Part]) -> None:
    """The same stamps, and images equal but for what another number of threads rounds otherwise."""
    assert len(one) == len(other)
    for mine, theirs in zip(drawings(one), drawings(other), strict=True):
        assert (mine.place, mine.seed, mine.map_sha256) == (
            theirs.place, theirs.seed, theirs.map_sha256,
        )  # fmt: skip
        assert mine.pixels_SS is not None
        assert theirs.pixels_SS is not None
        assert np.abs(mine.pixels_SS.astype(int) - theirs.pixels_SS).max() <= 1


def test_images_from_another_process_are_what_the_network_draws_here(told: Told) -> None:
    assert len(list(drawings(told.before))) == len(MAPS)
    expect_alike(told.before, here(SENT))


def test_a_job_whose_host_was_killed_gives_the_same_images(told: Told) -> None:
    assert 0 < told.begun < LONG.num_images
    expect_alike(told.interrupted, here(LONG))
    assert as_bytes(told.after) == as_bytes(told.before)


def test_a_cancelled_job_leaves_no_image(told: Told) -> None:
    assert told.cancelled == ("cancelled", Code.RESULT_MISSING)
    assert told.results_left == 0


def test_what_makes_no_sense_is_refused_and_leaves_no_job(told: Told) -> None:
    assert told.refused == {name: code for name, (_, code) in BAD.items()}
    assert told.jobs[0] == told.jobs[1]


def test_a_site_draws_a_stamped_dataset_and_again_nothing_new(told: Told) -> None:
    assert told.drawn is not None
    assert (told.drawn.origin, len(told.drawn.clips)) == ("synthetic", 12)
    for clip in told.drawn.clips:
        assert clip.synthesis is not None
        assert clip.synthesis.weights_sha256 == CARD.weights_sha256
    assert (told.document["changed"], told.document["known"]) == (True, 0)
    assert (told.site_codes["again"], told.is_same) == (0, True)


def test_what_a_site_may_not_have_ends_in_a_code_and_writes_nothing(told: Told) -> None:
    refused = {"unknown model": 72, "unreleased model": 72, "export": 40}
    assert {name: told.site_codes[name] for name in refused} == refused
    assert told.datasets == ("drawn",)
    assert not told.carried


def test_a_withdrawn_synthesizer_draws_no_more(told: Told) -> None:
    assert (told.site_codes["withdraw"], told.withdrawn) == (0, Code.MODEL_UNKNOWN)


def test_nothing_is_left_running(told: Told) -> None:
    assert told.orphans == []
