"""Segmenters by alias: what they answer, and what becomes of them when an alias moves."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from shared.echo.expert import WEIGHTS_FILE
from shared.echo.frame import Clip
from shared.echo.segmenter import save_segmenter
from shared.errors import Code, EchoFedError
from shared.rpc.channel import Channel, open_channel
from shared.rpc.deadline import Deadline
from shared.rpc.peer import Credentials, Peer
from shared.rpc.settings import WorkerSettings
from shared.segmentation.answer import Question, Segmenters
from shared.segmentation.segmenter import Segmenter, build_stored
from shared.services.host import Host
from shared.services.remote_segmentation import segment_remotely
from shared.services.running import RunningModels
from shared.services.segmentation import build
from shared.services.segmenters import PARTS, SERVING, RunningSegmenters
from shared.testing.hosting import hosting
from shared.testing.memory import GROWTH, expect_steady_memory
from shared.testing.segmenters import untrained_segmenter

SETTINGS = WorkerSettings(latency_ms=1.0, threads=1, num_models=2)
NORTH = Peer("north", "site")
MASKS, CONTOURS = PARTS
CLIP = Clip(
    np.random.default_rng(0).integers(0, 255, (9, 32, 24), np.uint8), (1.0, 1.0), 30.0, "", ""
)


def stored(folder: Path, seed: int, **changes: Any) -> Path:
    """The folder of an untrained segmenter."""
    card, weights = untrained_segmenter(seed, **changes)
    save_segmenter(folder / card.id, card, weights)
    return folder / card.id


def find(store: RunningModels, alias: str = MASKS) -> Segmenters:
    return RunningSegmenters(store).find(alias, caller=NORTH, call=Deadline(240.0))


def refusal(store: RunningModels, alias: str = MASKS) -> Code:
    with pytest.raises(EchoFedError) as refused:
        find(store, alias)
    return refused.value.code


def answered(segmenter: Segmenter | None) -> list[object]:
    assert segmenter is not None
    return [one.doubt_HW.tolist() for one in segmenter.masks(CLIP, view="A4C")]


def in_this_process(folder: Path, segmenter: Segmenter | None) -> list[object]:
    assert segmenter is not None
    return answered(Segmenter(segmenter.card, build_stored(str(folder))))


def await_true(condition: Callable[[], bool], *, timeout_s: float = 240.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def processes() -> set[int]:
    """Those that compute; multiprocessing keeps one beside them that does not."""
    found = set()
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if "spawn_main" in " ".join(one.cmdline()):
                found.add(one.pid)
    return found


@pytest.fixture
def aliases() -> dict[str, Path]:
    """What the house says; a test may change it."""
    return {}


@pytest.fixture
def store(aliases: dict[str, Path]) -> Iterator[RunningModels]:
    with RunningModels(lambda: dict(aliases), SETTINGS).running() as running:
        yield running


def test_what_began_with_a_segmenter_ends_with_it_though_its_alias_moves(
    aliases: dict[str, Path], store: RunningModels, tmp_path: Path
) -> None:
    before, after = stored(tmp_path, 1), stored(tmp_path, 2)
    aliases[MASKS] = before
    held = find(store).masks
    old = processes()
    aliases[MASKS] = after
    await_true(lambda: find(store).masks.card.id == after.name)  # type: ignore[union-attr]
    assert answered(held) == in_this_process(before, held)
    fresh = find(store).masks
    assert answered(fresh) == in_this_process(after, fresh)
    del held
    await_true(lambda: not (processes() & old))


def test_a_damaged_segmenter_leaves_the_one_before_it_serving(
    aliases: dict[str, Path],
    store: RunningModels,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    aliases[MASKS] = good = stored(tmp_path, 1)
    answered(find(store).masks)
    damaged = stored(tmp_path, 2)
    (damaged / WEIGHTS_FILE).write_bytes(b"damaged")
    aliases[MASKS] = damaged
    await_true(lambda: "serves on: CHECKPOINT_CORRUPT" in caplog.text)
    still = find(store).masks
    assert answered(still) == in_this_process(good, still)
    assert store.statistics()[MASKS].num_requests == 4  # a piece of eight frames, and one, twice


def test_serving_stands_for_both_kinds_and_a_withdrawn_alias_for_nothing(
    aliases: dict[str, Path], store: RunningModels, tmp_path: Path
) -> None:
    aliases[MASKS] = stored(tmp_path, 1)
    options = {"width": 8, "depth": 1}
    aliases[CONTOURS] = stored(
        tmp_path, 1, answers="contours", network="contour_net", options=options,
        structures=("lv",), num_landmarks=7,
    )  # fmt: skip
    both = find(store, SERVING)
    assert both.masks is not None
    assert both.contours is not None
    assert len(both.contours.contours(CLIP, view="A4C")) == len(CLIP.pixels_THW)
    aliases["third"] = aliases[MASKS]
    await_true(lambda: refusal(store, "third") is Code.SERVICE_BUSY)
    aliases.clear()
    await_true(lambda: not store.statistics())
    assert refusal(store, SERVING) is Code.MODEL_UNKNOWN


def test_what_nobody_called_so_is_unknown_and_what_is_damaged_is_told(
    aliases: dict[str, Path], store: RunningModels, tmp_path: Path
) -> None:
    aliases[MASKS] = stored(tmp_path, 1)
    (aliases[MASKS] / WEIGHTS_FILE).write_bytes(b"damaged")
    assert refusal(store, "nobody") is Code.MODEL_UNKNOWN
    assert refusal(store) is Code.CHECKPOINT_CORRUPT


def test_after_the_end_no_process_is_left_and_none_is_started(tmp_path: Path) -> None:
    folder = stored(tmp_path, 1)
    store = RunningModels(lambda: {MASKS: folder}, SETTINGS)
    assert refusal(store) is Code.WORKER_LOST
    before = processes()
    with store.running():
        find(store)
        assert processes() > before
    assert processes() == before
    assert refusal(store) is Code.WORKER_LOST


@pytest.mark.slow
def test_ten_thousand_clips_take_no_memory(
    aliases: dict[str, Path],
    store: RunningModels,
    passes: Mapping[str, Credentials],
    tmp_path: Path,
) -> None:
    aliases[MASKS] = stored(tmp_path, 1)
    before = processes()
    question = Question("A4C", MASKS, wants_masks=True)
    clip = Clip(CLIP.pixels_THW[:1], CLIP.mm_per_pixel, None, "", "")
    sizes: list[int] = []

    def asked(channel: Channel) -> Iterator[None]:
        for place in range(10_000):
            list(segment_remotely(channel, clip, question))
            if place in (1000, 9999):
                (computing,) = processes() - before
                sizes.append(psutil.Process(computing).memory_info().rss)
            yield

    service = build(Host(tmp_path / "jobs", segmenters=RunningSegmenters(store)))
    with hosting(service, passes) as address, open_channel(address, passes["site"]) as channel:
        expect_steady_memory(asked(channel), first=1000)
    assert sizes[1] < (1 + GROWTH) * sizes[0]
