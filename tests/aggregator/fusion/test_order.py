"""The same datasets in another order: nothing changes for a closed form, and the rest is told."""

import pytest

from aggregator.fusion.order import NUM_ORDERS, measure_order_spread
from aggregator.joined_rows import JoinedRows
from aggregator.settings import FusionSettings

SETTINGS = FusionSettings(epochs=2, batch_size=64, threads=1)


@pytest.mark.parametrize("rows", ["joined", "incomplete"])
def test_the_closed_form_does_not_depend_on_the_order(
    request: pytest.FixtureRequest, rows: str
) -> None:
    joined: JoinedRows = request.getfixturevalue(rows)
    found = measure_order_spread(joined, SETTINGS, "ridge")
    assert len(found.macro_f1) == NUM_ORDERS
    assert found.spread == 0.0
    assert found.probability_change < 1e-5  # sums and weights in float32


def test_a_trained_variants_spread_is_reported(joined: JoinedRows) -> None:
    told = []
    found = measure_order_spread(joined, SETTINGS, "sum", advance=lambda: told.append(1))
    assert len(told) == NUM_ORDERS
    assert found.probability_change > 0  # rows come in another order, so batches differ
    assert found.spread == pytest.approx(max(found.macro_f1) - min(found.macro_f1))
