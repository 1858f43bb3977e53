"""Segmenters behind real processes: at the centre for its sites, and inside a hospital.

A phantom's cine is answered over mutual TLS from another process, while the alias moves, the
process that computes is killed, and the host is told to stop.
"""

import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydicom
import pytest
from numpy.typing import NDArray

from aggregator.centre import open_centre
from aggregator.enrolment import approve, invite
from shared.echo.expert import CARD_FILE
from shared.echo.frame import Clip
from shared.echo.model_name import ModelName
from shared.echo.segmenter import save_segmenter
from shared.errors import Code, EchoFedError
from shared.phantom.hospital import HospitalSpec, write_hospital
from shared.rpc.channel import Channel, open_channel
from shared.rpc.peer import Credentials
from shared.segmentation.answer import (
    FrameAnswer,
    Part,
    Question,
    Segmenters,
    answer_clip,
)
from shared.segmentation.segmenter import Segmenter, build_stored
from shared.services.remote_segmentation import segment_remotely
from shared.services.segmenters import PARTS
from shared.testing.commands import run_command, set_options, start_command
from shared.testing.segmenters import untrained_segmenter
from site_client.connection import open_services
from site_client.federate import free_port
from site_client.hosting import hospital_of, open_own_services
from site_client.identity import Identity, accept_certificate, join
from site_client.settings import CentreSettings, ServicesSettings
from site_client.store import SiteStore

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

NOW = datetime.now(UTC)
TIMEOUT_S = 300.0
QUESTION = Question("A4C", PARTS[0], wants_masks=True, wants_contours=False)
CARD: dict[str, Any] = {"structures": ("background", "lv", "myocardium", "la"), "image_size": 64}


@dataclass
class Told:
    """What came out of the story."""

    expected: list[Part] = field(default_factory=list)
    answered: list[Part] = field(default_factory=list)
    under_way: list[list[Part]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    after_kill: list[Part] = field(default_factory=list)
    num_killed: int = 0
    while_stopped: list[Part] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    inside: list[Part] = field(default_factory=list)
    stranger: Code | None = None
    orphans: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("hosting")
    story, before = Told(), set(psutil.Process().children(recursive=True))
    clip = cine(folder / "data")
    one, other = (stored(folder / "trained", seed) for seed in (1, 2))
    story.names = [one.name, other.name]
    story.expected = list(answer_clip(here(one), clip, QUESTION))
    at_the_centre(folder, story, clip, (one, other))
    inside_a_hospital(folder, story, clip, one)
    left = set(psutil.Process().children(recursive=True)) - before
    story.orphans = [" ".join(process.cmdline()) for process in left if process.is_running()]
    return story


def at_the_centre(folder: Path, story: Told, clip: Clip, segmenters: tuple[Path, Path]) -> None:
    """Register, serve, ask, move the alias, kill, stop."""
    config, port = folder / "aggregator.yaml", free_port()
    ports = {"federation.port": 0, "federation.superlink_port": 0, "services.port": port}
    run_command("echofed-aggregator", "init", *set_options(ports), config=config)
    register = ("echofed-aggregator", "register")
    run_command(*register, segmenters[0] / CARD_FILE, config=config)
    serve = ("serve", "--services", "models,segmentation")
    host = start_command(folder / "centre.log", "echofed-aggregator", *serve, config=config)
    with site_channel(folder, config, port) as channel:
        story.answered = ask(channel, clip)
        over = threading.Event()
        asking = threading.Thread(target=ask_on, args=(channel, clip, story.under_way, over))
        asking.start()
        run_command(*(*register, segmenters[1] / CARD_FILE, "--reason", "better"), config=config)
        over.wait(TIMEOUT_S)
        asking.join()
        story.after_kill = ask_while(channel, long(clip), lambda: kill_worker(host, story))
        story.while_stopped = ask_while(
            channel, long(clip), lambda: host.send_signal(signal.SIGTERM)
        )
    story.exits.append(host.wait(TIMEOUT_S))


def inside_a_hospital(folder: Path, story: Told, clip: Clip, segmenter: Path) -> None:
    """A site without a centre; who has a certificate of the centre stays outside."""
    home = folder / "alone"
    config, services = home / "site.yaml", ServicesSettings(port=free_port())
    options = set_options({"services.port": services.port})
    run_command("echofed-site", "init", "--standalone", home, *options, config=config)
    store = SiteStore(home)
    card, weights = untrained_segmenter(1, site="alone", **CARD)
    save_segmenter(store.segmenter_folder(card.id), card, weights)
    store.set_alias(PARTS[0], card.id)
    host = start_command(folder / "alone.log", "echofed-site", "serve", config=config)
    with open_own_services(store, services, deadline_s=TIMEOUT_S) as channel:
        story.inside = ask(channel, clip)
    identity = Identity(folder / "north" / "identity")
    ca = hospital_of(store).own.ca
    shown = Credentials(ca, identity.certificate, identity.tls_key)
    with (
        open_channel(f"127.0.0.1:{services.port}", shown, deadline_s=20.0) as channel,
        pytest.raises(EchoFedError) as refused,
    ):
        ask(channel, clip)
    story.stranger = refused.value.code
    host.send_signal(signal.SIGTERM)
    story.exits.append(host.wait(TIMEOUT_S))


def site_channel(folder: Path, config: Path, port: int) -> AbstractContextManager[Channel]:
    """The way from a site that was enrolled as sites are."""
    store = SiteStore(folder / "north")
    centre = open_centre(config)
    kit = invite(centre.authority, "north", address="127.0.0.1:1", federation="test", now=NOW)
    request = join(store.identity_folder, kit, now=NOW)
    _, document = approve(centre.authority, request, federation="test", now=NOW)
    accept_certificate(store.identity_folder, document)
    centre.state.close()
    settings = CentreSettings(
        address="127.0.0.1:1", federation="test", services=f"127.0.0.1:{port}"
    )
    return open_services(store, settings, now=NOW, deadline_s=TIMEOUT_S)


def cine(folder: Path) -> Clip:
    """What a phantom's DICOM file shows, read as an archive would."""
    write_hospital(
        HospitalSpec(
            name="north", scanner="aurora", labels={"4CH": "A4C"}, num_patients=1,
            clips_per_view=1, frames_per_clip=12, size_HW=(120, 160), screen_correlation=0.0,
            seed=1,
        ),
        folder,
    )  # fmt: skip
    (path,) = folder.rglob("*.dcm")
    pixels_THW = pydicom.dcmread(path).pixel_array
    assert pixels_THW.shape == (12, 120, 160)
    return Clip(pixels_THW.astype(np.uint8), (1.0, 1.0), 40.0, "", "")


def long(clip: Clip) -> Clip:
    """Enough frames to do something in the middle of them."""
    return Clip(np.tile(clip.pixels_THW, (20, 1, 1)), clip.mm_per_pixel, 40.0, "", "")


def stored(folder: Path, seed: int) -> Path:
    card, weights = untrained_segmenter(seed, **CARD)
    save_segmenter(folder / card.id, card, weights)
    return folder / card.id


def here(folder: Path) -> Segmenters:
    """The same segmenter in this process."""
    card, _ = untrained_segmenter(1, **CARD)
    return Segmenters(Segmenter(card, build_stored(str(folder))))


def ask(channel: Channel, clip: Clip) -> list[Part]:
    return list(segment_remotely(channel, clip, QUESTION, timeout_s=TIMEOUT_S))


def ask_on(channel: Channel, clip: Clip, answers: list[list[Part]], over: threading.Event) -> None:
    """Ask until another segmenter answers; nothing may fail in between."""
    try:
        while len({name_of(answer) for answer in answers}) < 2:
            answers.append(ask(channel, clip))
    finally:
        over.set()


def ask_while(channel: Channel, clip: Clip, act: Callable[[], object]) -> list[Part]:
    """Ask, and act when the first frame has come."""
    parts: list[Part] = []
    for part in segment_remotely(channel, clip, QUESTION, timeout_s=TIMEOUT_S):
        if isinstance(part, FrameAnswer) and part.frame == 0:
            act()
        parts.append(part)
    return parts


def kill_worker(host: "subprocess.Popen[bytes]", story: Told) -> None:
    """Kill every process that computes; the resource tracker computes nothing."""
    children = psutil.Process(host.pid).children(recursive=True)
    computing = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
    for process in computing:
        process.kill()
    story.num_killed = len(computing)


def name_of(answer: list[Part]) -> str:
    (name,) = [part.id for part in answer if isinstance(part, ModelName)]
    return name


def labels(answer: list[Part]) -> NDArray[np.uint8]:
    """The label maps (T, H, W) of an answer."""
    frames = [part for part in answer if isinstance(part, FrameAnswer)]
    return np.stack([part.mask.mask.labels_HW for part in frames if part.mask is not None])


def are_alike(one_THW: NDArray[np.uint8], other_THW: NDArray[np.uint8]) -> bool:
    """Equal but for ties that another number of threads may break otherwise."""
    is_equal = np.equal(one_THW, other_THW)
    return one_THW.shape == other_THW.shape and bool(is_equal.mean() > 0.999)


def test_an_answer_from_another_process_is_what_the_network_says_here(told: Told) -> None:
    assert name_of(told.answered) == name_of(told.expected)
    assert labels(told.answered).shape == (12, 120, 160)
    assert are_alike(labels(told.answered), labels(told.expected))


def test_an_alias_moves_under_load_without_a_failed_or_mixed_answer(told: Told) -> None:
    names = [name_of(answer) for answer in told.under_way]
    assert sorted(names, key=told.names.index) == names  # first all of one, then of the other
    assert set(names) == set(told.names)
    for answer in told.under_way[:-1]:
        assert are_alike(labels(answer), labels(told.expected))
    assert not are_alike(labels(told.under_way[-1]), labels(told.expected))


def test_a_killed_process_costs_no_answer(told: Told) -> None:
    assert told.num_killed > 0
    assert are_alike(labels(told.after_kill), np.tile(labels(told.under_way[-1]), (20, 1, 1)))


def test_a_host_that_is_told_to_stop_answers_what_it_has_begun(told: Told) -> None:
    assert len(labels(told.while_stopped)) == 240
    assert told.exits == [0, 0]


def test_a_hospital_answers_its_own_and_nobody_whom_the_centre_admits(told: Told) -> None:
    assert are_alike(labels(told.inside), labels(told.expected))
    assert told.stranger is Code.CENTRE_UNREACHABLE


def test_nothing_is_left_running(told: Told) -> None:
    assert told.orphans == []
