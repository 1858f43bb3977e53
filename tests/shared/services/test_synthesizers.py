"""Synthesizers by alias: what they draw in their process, and that no alias is of two kinds."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.echo.model_card import ModelCard, save_model
from shared.echo.synthesizer import Sampler
from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Deadline
from shared.rpc.peer import Peer
from shared.rpc.settings import WorkerSettings
from shared.services.running import RunningModels
from shared.services.segmenters import RunningSegmenters
from shared.services.synthesizers import SYNTHESIS, RunningSynthesizers
from shared.synthesis.answer import Drawer
from shared.synthesis.maps import phantom_maps
from shared.synthesis.semantic import Synthesizer, build_synthesizer
from shared.testing.segmenters import untrained_segmenter
from shared.testing.synthesizers import untrained_synthesizer

SETTINGS = WorkerSettings(latency_ms=100.0, threads=1, max_drawn=3, num_models=2)
NUM = 4  # images of an order
SEEDS = np.array([4, 2**40, 9, 0])
Drawn = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]


def stored(folder: Path, card: ModelCard, weights: bytes) -> Path:
    save_model(folder / card.id, card, weights)
    return folder / card.id


@pytest.fixture
def aliases() -> dict[str, Path]:
    """What the house says; a test may change it."""
    return {}


@pytest.fixture
def models(aliases: dict[str, Path]) -> Iterator[RunningModels]:
    with RunningModels(lambda: dict(aliases), SETTINGS).running() as running:
        yield running


def find(models: RunningModels, alias: str = SYNTHESIS, *, caller: str = "north") -> Drawer:
    store = RunningSynthesizers(models)
    return store.find(alias, caller=Peer(caller, "site"), call=Deadline(60.0))


def refusal(call: Callable[[], object]) -> Code:
    with pytest.raises(EchoFedError) as refused:
        call()
    return refused.value.code


def labels_of(drawer: Drawer | Synthesizer, seed: int) -> NDArray[np.uint8]:
    card = drawer.card
    return phantom_maps(NUM, seed, card.image_size, structures=card.structures).labels_NSS


def drawn(drawer: Drawer, seed: int, sampler: Sampler) -> Drawn:
    return drawer.draw(labels_of(drawer, seed), np.zeros(NUM, np.int64), SEEDS + seed, sampler)


def expect_as_here(answer: Drawn, here: Synthesizer, seed: int, sampler: Sampler) -> None:
    """As in this process, but for the last bits of sums in float32, which hang on the company."""
    images_NSS = here.images(
        labels_of(here, seed), view_N=np.zeros(NUM, int), seeds_N=SEEDS + seed, sampler=sampler
    )
    similarity_N = here.gate.similarities(images_NSS)
    assert [part.dtype.name for part in answer] == ["uint8", "float32", "bool"]
    assert np.abs(answer[0].astype(int) - images_NSS).max() <= 1
    assert np.allclose(answer[1], similarity_N, atol=1e-3)
    assert np.array_equal(answer[2], answer[1] <= here.card.release_threshold)


def test_orders_of_several_callers_and_samplers_share_batches_and_get_their_own(
    aliases: dict[str, Path], models: RunningModels, tmp_path: Path
) -> None:
    made = untrained_synthesizer(1)
    aliases[SYNTHESIS] = stored(tmp_path, *made)
    own, here = made[0].sampler, build_synthesizer(*made)
    samplers = [own, replace(own, steps=2), replace(own, solver="heun"), replace(own, guidance=2.0)]
    find(models)  # stands before the callers come
    with ThreadPoolExecutor(len(samplers)) as pool:
        asked = [
            pool.submit(drawn, find(models, caller=f"c{seed}"), seed, sampler)
            for seed, sampler in enumerate(samplers)
        ]
        for seed, sampler in enumerate(samplers):
            expect_as_here(asked[seed].result(), here, seed, sampler)
    told = models.statistics()[SYNTHESIS]
    assert (told.num_rows, told.num_requests) == (16, 4)
    assert 6 <= told.num_batches <= 7  # of three at most; alone, each order would take two


def test_noise_levels_and_solvers_that_the_process_does_not_know_are_refused_here(
    aliases: dict[str, Path], models: RunningModels, tmp_path: Path
) -> None:
    aliases[SYNTHESIS] = stored(tmp_path, *untrained_synthesizer(1))
    drawer = find(models)
    sampler = drawer.card.sampler
    for other, code in (
        (replace(sampler, sigma_max=7.0), Code.CONFIG_INVALID),
        (replace(sampler, solver="leap"), Code.NAME_UNKNOWN),
    ):
        assert refusal(partial(drawn, drawer, 1, other)) is code
    assert models.statistics()[SYNTHESIS].num_rows == 0


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
    sampler = before[0].sampler
    expect_as_here(drawn(held, 1, sampler), build_synthesizer(*before), 1, sampler)


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
