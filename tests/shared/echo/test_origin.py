"""What is made of several is called by the part that is farthest from patients."""

from itertools import product

import pytest

from shared.echo.origin import ORIGINS, Origin, mixed_origin


@pytest.mark.parametrize(("one", "other"), list(product(ORIGINS, repeat=2)))
def test_a_mixture_is_real_only_where_all_of_it_is(one: Origin, other: Origin) -> None:
    mixed = mixed_origin([one, other])
    assert mixed == mixed_origin([other, one])
    assert (mixed == "real") == (one == other == "real")
    assert (mixed == "phantom") == ("phantom" in {one, other})
