"""A sampler arrives as it was sent, and each image keeps its own."""

from dataclasses import replace

import numpy as np
import pytest

from shared.echo.synthesizer import Sampler
from shared.errors import Code, EchoFedError
from shared.synthesis.rows import by_sampler, sampler_rows

SAMPLER = Sampler("dpmpp_2m", "karras", 25, 1 / 3, 80.0, guidance=1.5)


def test_samplers_of_a_mixed_batch_come_back_each_with_its_rows() -> None:
    other = replace(SAMPLER, steps=7)
    rows_NB = np.concatenate([sampler_rows(one, 1) for one in (SAMPLER, other, SAMPLER)])
    found = {sampler: places.tolist() for sampler, places in by_sampler(rows_NB)}
    assert found == {SAMPLER: [0, 2], other: [1]}


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        sampler_rows(replace(SAMPLER, solver="x" * 300), 1)
    assert caught.value.code is Code.CONFIG_INVALID
