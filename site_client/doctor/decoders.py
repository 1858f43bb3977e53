"""Whether the pictures that scanners and archives write can be decoded here."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec

from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from shared.errors import Code
from site_client.doctor.finding import Finding, Premises, fault, fine, warn

_USUAL = (
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless,
    JPEGLosslessSV1, JPEG2000Lossless, JPEG2000,
)  # fmt: skip
"""What ultrasound scanners and their archives write."""
_RARE = (JPEGLSLossless, JPEGLSNearLossless, HTJ2KLossless)
_INSTALL = "install echofed with its extra [site]: the pylibjpeg packages are missing or too old"


def check(premises: Premises) -> Iterator[Finding]:
    """DICOM transfer syntaxes by name, and video files."""
    usual, rare = (_undecodable(syntaxes) for syntaxes in (_USUAL, _RARE))
    if usual:
        yield fault(Code.DATA_UNREADABLE, f"not decoded here: {', '.join(usual)}", _INSTALL)
    else:
        yield fine(f"all {len(_USUAL)} usual DICOM transfer syntaxes are decoded")
    if rare:
        yield warn(f"rare, and not decoded here: {', '.join(rare)}", _INSTALL)
    if find_spec("av") is not None:
        yield fine("video files are decoded by PyAV")
    elif shutil.which("ffmpeg"):
        yield fine("video files are decoded by ffmpeg")
    else:
        yield warn("video files are not decoded here", "install av (PyAV) if you have AVI or MP4")


def _undecodable(syntaxes: tuple[UID, ...]) -> list[str]:
    return [syntax.name for syntax in syntaxes if not get_decoder(syntax).is_available]
