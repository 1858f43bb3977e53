"""A compressed frame says how large it is; one that does not is not believed."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import generate_frames

from shared.testing.forms import forms
from site_client.datasets.codestream import declared_shape

COMPRESSED = [name for name in forms() if name.startswith(("jpeg", "htj2k"))]


@pytest.mark.parametrize("form", COMPRESSED)
def test_the_shape_is_found_in_every_codec(form: str) -> None:
    dataset = dcmread(io.BytesIO(forms()[form]))
    code = next(generate_frames(dataset.PixelData, number_of_frames=1))
    assert declared_shape(code) == (48, 64, dataset.SamplesPerPixel)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_the_shape_is_found_in_a_file_of_its_own(kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(stream, kind)
    assert declared_shape(stream.getvalue()) == (20, 30, 3)
    for length in (0, 1, 3, 12, 40):
        assert declared_shape(stream.getvalue()[:length]) is None
