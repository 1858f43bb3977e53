"""Synthesizers by alias: what they draw in their process, and that no alias is of two kinds."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.echo.model_card import ModelCard, save_model
from shared.echo.synthesizer import Sampler
from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Deadline
from shared.rpc.peer import Peer
from shared.rpc.settings import WorkerSettings
from shared.services.running import WORK, RunningModels, Work
from shared.services.segmenters import RunningSegmenters
from shared.services.synthesizers import SYNTHESIS, RunningSynthesizers
from shared.synthesis.answer import Drawer
from shared.testing.drawers import ShowingDrawer
from shared.testing.segmenters import untrained_segmenter
from shared.testing.synthesizers import untrained_synthesizer

SETTINGS = WorkerSettings(latency_ms=50.0, threads=1, max_drawn=3, num_models=2)
SHOWING = {
    **WORK,
    "synthesizer": Work(
        "shared.testing.synthesizers:build_showing", lambda settings: settings.max_drawn, 60.0
    ),
}


def stored(folder: Path, card: ModelCard, weights: bytes) -> Path:
    save_model(folder / card.id, card, weights)
    return folder / card.id


@pytest.fixture
def aliases() -> dict[str, Path]:
    """What the house says; a test may change it."""
    return {}


@pytest.fixture
def models(aliases: dict[str, Path]) -> Iterator[RunningModels]:
    with RunningModels(lambda: dict(aliases), SETTINGS, work=SHOWING).running() as running:
        yield running


def find(models: RunningModels, alias: str = SYNTHESIS, *, caller: str = "north") -> Drawer:
    store = RunningSynthesizers(models)
    return store.find(alias, caller=Peer(caller, "site"), call=Deadline(60.0))


def refusal(call: Callable[[], object]) -> Code:
    with pytest.raises(EchoFedError) as refused:
        call()
    return refused.value.code


def drawn(drawer: Drawer, seed: int, sampler: Sampler, num: int = 5) -> list[list[object]]:
    rng = np.random.default_rng(seed)
    labels_NSS = rng.integers(0, 3, (num, 16, 16), np.uint8)
    seeds_N = rng.integers(0, 2**62, num)
    images, similarities, released = drawer.draw(
        labels_NSS, np.zeros(num, np.int64), seeds_N, sampler
    )
    assert [one.dtype.name for one in (images, similarities, released)] == [
        "uint8",
        "float32",
        "bool",
    ]
    return [images.tolist(), similarities.tolist(), released.tolist()]


def test_orders_of_several_callers_and_samplers_share_batches_and_get_their_own(
    aliases: dict[str, Path], models: RunningModels, tmp_path: Path
) -> None:
    card, weights = untrained_synthesizer(1)
    aliases[SYNTHESIS] = stored(tmp_path, card, weights)
    samplers = [replace(card.sampler, steps=steps) for steps in (4, 9, 4, 1)]
    here = [drawn(ShowingDrawer(card), seed, one) for seed, one in enumerate(samplers)]
    find(models)  # stands before the callers come
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(lambda s, one: drawn(find(models, caller=f"c{s}"), s, one), seed, one)
            for seed, one in enumerate(samplers)
        ]
        assert [one.result() for one in asked] == here
    told = models.statistics()[SYNTHESIS]
    assert (told.num_rows, told.num_requests) == (20, 4)
    assert 7 <= told.num_batches < 12  # of three rows at most; alone, each of four would take two


def test_a_drawer_goes_on_with_its_synthesizer_though_the_alias_moves(
    aliases: dict[str, Path], models: RunningModels, tmp_path: Path
) -> None:
    before, after = (untrained_synthesizer(seed) for seed in (1, 2))
    aliases[SYNTHESIS] = stored(tmp_path, *before)
    held = find(models)
    aliases[SYNTHESIS] = stored(tmp_path, *after)
    deadline = time.monotonic() + 120.0
    while find(models).card != after[0]:
        assert time.monotonic() < deadline, "the alias did not move in time"
        time.sleep(0.05)
    assert held.card == before[0]
    sampler = before[0].sampler
    assert drawn(held, 1, sampler) == drawn(ShowingDrawer(before[0]), 1, sampler)


def test_what_is_of_the_other_kind_is_unknown_and_starts_no_process(
    aliases: dict[str, Path], models: RunningModels, tmp_path: Path
) -> None:
    aliases["masks"] = stored(tmp_path, *untrained_segmenter(1))
    aliases[SYNTHESIS] = stored(tmp_path, *untrained_synthesizer(1))

    def ask() -> object:
        caller, call = Peer("north", "site"), Deadline(60.0)
        return RunningSegmenters(models).find(SYNTHESIS, caller=caller, call=call)

    assert refusal(lambda: find(models, "masks")) is Code.MODEL_UNKNOWN
    assert refusal(lambda: find(models, "nobody")) is Code.MODEL_UNKNOWN
    assert refusal(ask) is Code.MODEL_UNKNOWN
    assert models.statistics() == {}
    assert find(models).card.kind == "synthesizer"
    assert refusal(ask) is Code.MODEL_UNKNOWN
