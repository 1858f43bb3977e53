"""Synthesizers by alias: what they draw in their process, and that no alias is of two kinds."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.echo.model_card import ModelCard, save_model
from shared.echo.synthesizer import Sampler, SynthesizerCard
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


@pytest.fixture(scope="module")
def made() -> tuple[SynthesizerCard, bytes]:
    return untrained_synthesizer(1)


@pytest.fixture(scope="module")
def models(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[SynthesizerCard, bytes]
) -> Iterator[RunningModels]:
    """One of each kind; a process takes seconds to start, so the tests share them."""
    folder = tmp_path_factory.mktemp("models")
    aliases = {
        "masks": stored(folder, *untrained_segmenter(1)),
        SYNTHESIS: stored(folder, *made),
    }
    with RunningModels(lambda: aliases, SETTINGS).running() as running:
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
    models: RunningModels, made: tuple[SynthesizerCard, bytes]
) -> None:
    own, here = made[0].sampler, build_synthesizer(*made)
    samplers = [own, replace(own, steps=2), replace(own, solver="heun"), replace(own, guidance=2.0)]
    find(models)  # stands before the callers come
    before = models.statistics()[SYNTHESIS]
    with ThreadPoolExecutor(len(samplers)) as pool:
        asked = [
            pool.submit(drawn, find(models, caller=f"c{seed}"), seed, sampler)
            for seed, sampler in enumerate(samplers)
        ]
        for seed, sampler in enumerate(samplers):
            expect_as_here(asked[seed].result(), here, seed, sampler)
    after = models.statistics()[SYNTHESIS]
    assert after.num_rows - before.num_rows == 16
    num_batches = after.num_batches - before.num_batches
    assert 6 <= num_batches <= 7  # of three at most; alone, each order would take two


def test_noise_levels_and_solvers_that_the_process_does_not_know_are_refused_here(
    models: RunningModels,
) -> None:
    drawer = find(models)
    before, sampler = models.statistics()[SYNTHESIS], drawer.card.sampler
    for other, code in (
        (replace(sampler, sigma_max=7.0), Code.CONFIG_INVALID),
        (replace(sampler, solver="leap"), Code.NAME_UNKNOWN),
    ):
        assert refusal(partial(drawn, drawer, 1, other)) is code
    assert models.statistics()[SYNTHESIS] == before


def test_what_is_of_the_other_kind_is_unknown_and_starts_no_process(models: RunningModels) -> None:
    def ask() -> object:
        caller, call = Peer("north", "site"), Deadline(60.0)
        return RunningSegmenters(models).find(SYNTHESIS, caller=caller, call=call)

    assert refusal(lambda: find(models, "masks")) is Code.MODEL_UNKNOWN
    assert refusal(lambda: find(models, "nobody")) is Code.MODEL_UNKNOWN
    assert refusal(ask) is Code.MODEL_UNKNOWN
    assert find(models).card.kind == "synthesizer"
    assert refusal(ask) is Code.MODEL_UNKNOWN
    assert set(models.statistics()) == {SYNTHESIS}
