"""Write shared/testing/codestreams.yaml: one fan in the codecs that the site's extra cannot write.

Needs imagecodecs (not installed with echofed): python tests/bench/encode_codestreams.py
"""

import base64
from pathlib import Path

import imagecodecs
import numpy as np
import yaml

from shared.testing.forms import FAN

TARGET = Path(__file__).parents[2] / "shared" / "testing" / "codestreams.yaml"


def main() -> None:
    """Encode the frame and write it as base64 by name."""
    fan = FAN[0]
    deep = fan.astype(np.uint16) << 4
    streams = {
        "jpeg_extended_12": imagecodecs.jpeg8_encode(deep, level=95, bitspersample=12),
        "jpeg_lossless": imagecodecs.jpeg8_encode(fan, lossless=True, predictor=6),
        "jpeg_lossless_sv1": imagecodecs.jpeg8_encode(fan, lossless=True, predictor=1),
        "jpeg_ls": imagecodecs.jpegls_encode(fan),
        "jpeg_ls_near": imagecodecs.jpegls_encode(fan, level=2),
        "htj2k": imagecodecs.htj2k_encode(fan, reversible=True),
    }
    packed = {name: base64.b64encode(data).decode() for name, data in streams.items()}
    TARGET.write_text(yaml.safe_dump(packed, width=99, sort_keys=True))


if __name__ == "__main__":
    main()
