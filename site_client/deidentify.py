"""De-identification before anything is stored: keyed pseudonyms, no header, only tissue.

Of a header only frame time and spacing stay: the basic profile of DICOM PS3.15 E.1 holds by leaving
everything else out, private elements and overlay planes among it. Patient and study get keyed
pseudonyms, the day of the study is moved.
"""

import hashlib
import hmac
import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.echo.detection import Region, detect_sector
from shared.errors import Code, EchoFedError
from site_client.clip_file import StoredClip
from site_client.datasets.modes import mode_of
from site_client.datasets.raw import Mode, RawClip

KeptPixels = Literal["sector", "region", "screen"]
PROFILE_VERSION = 1
"""Raised with every change of what is removed or kept, so that receipts can be told apart."""
_BASIC, _CLEAN_PIXELS, _CLEAN_GRAPHICS, _MODIFIED_DATES = "113100", "113101", "113103", "113107"
_MOST_DAYS = 3653  # ten years hide the year and the season, and keep days within the calendar
_EARLIEST = 1900  # an older day is a placeholder
_IN_WORDS: dict[Mode, str] = {
    "b_mode": "plain tissue",
    "colour": "flow in colour",
    "spectral": "a Doppler spectrum",
    "m_mode": "M-mode",
}
_KEY_CHARACTERS = 32  # 128 bits: no two clips of the world share it by chance


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Keyed pseudonyms (HMAC-SHA256); without the site's key nobody can link or invert them."""

    key: bytes

    def patient(self, identity: str) -> str:
        """Patient key of the source's patient id."""
        return self._digest(b"patient", identity.encode())

    def study(self, identity: str) -> str:
        """Key of the source's study id."""
        return self._digest(b"study", identity.encode())

    def moved(self, day: date, patient: str) -> date | None:
        """The day of a study, moved into the past by the patient's own secret number of days.

        Days between studies of one patient stay as they were.

        Args:
            day: of the study.
            patient: patient key.
        """
        if day.year < _EARLIEST:
            return None
        number = int(self._digest(b"days", patient.encode()), 16)
        return day - timedelta(days=1 + number % _MOST_DAYS)

    def clip(self, data: bytes, kept: KeptPixels) -> str:
        """Key of a clip: the same file, de-identified in the same way, always has the same one."""
        return self._digest(b"clip " + kept.encode(), data)

    def pixels(self, pixels_THW: NDArray[np.uint8]) -> str:
        """Key of what a clip shows, whichever file it came from."""
        shape = " ".join(map(str, pixels_THW.shape))
        digest = hashlib.sha256(np.ascontiguousarray(pixels_THW).data).digest()
        return self._digest(b"pixels " + shape.encode(), digest)

    def file(self, stat: os.stat_result, name: str, how: str) -> str:
        """Mark of a file as it is now, to be read in a certain way."""
        text = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0{how}"
        return self._digest(b"file", os.fsencode(text))

    def _digest(self, purpose: bytes, text: bytes) -> str:
        full = hmac.new(self.key, purpose + b"\0" + text, hashlib.sha256).hexdigest()
        return full[:_KEY_CHARACTERS]


def require_allowed(kept: KeptPixels, origin: str) -> None:
    """Refuse to keep whole screens of real patients.

    Raises:
        EchoFedError: CONFIG_INVALID.
    """
    if kept == "screen" and origin != "phantom":
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"ingest.keep_pixels=screen is not allowed for data of origin {origin!r}",
            "use sector or region: a screen may show a patient's name",
        )


def require_looked_at(on_text: str, origin: str) -> None:
    """Refuse to leave text inside the sector of real patients' clips unseen.

    Raises:
        EchoFedError: CONFIG_INVALID.
    """
    if on_text == "keep" and origin != "phantom":
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"ingest.text=keep is not allowed for data of origin {origin!r}",
            "use quarantine or blank; echofed-site review keeps clips one by one",
        )


def method_codes(kept: KeptPixels) -> tuple[str, ...]:
    """What is done, as DICOM says it in the method code sequence (0012,0064), PS3.16 CID 7050.

    Pixels are called clean only where nothing outside the fan is kept.
    """
    pixels = (_CLEAN_PIXELS,) if kept == "sector" else ()
    return (_BASIC, *pixels, _CLEAN_GRAPHICS, _MODIFIED_DATES)


def require_wanted(mode: Mode, wanted: Collection[Mode]) -> None:
    """Refuse a clip of a kind that the operator does not want.

    Raises:
        EchoFedError: MODE_UNWANTED.
    """
    if mode not in wanted:
        raise EchoFedError(
            Code.MODE_UNWANTED,
            f"a file shows {_IN_WORDS[mode]}",
            f"add {mode} to ingest.modes to keep such files",
        )


def deidentify(
    clip: RawClip, kept: KeptPixels, wanted: Collection[Mode] = tuple(_IN_WORDS)
) -> StoredClip:
    """Keep tissue, scale and annotation; make every other pixel zero.

    No pixel moves and no frame goes, so the annotation stays on what it was drawn on.

    Args:
        clip: as read; its patient is not in it any more.
        kept: ``sector`` (the fan), ``region`` (the scanner's regions of tissue, spectra and M-mode)
            or ``screen``.
        wanted: what a clip may show.

    Raises:
        EchoFedError: MODE_UNWANTED, and SECTOR_EMPTY where what shall be kept cannot be found.
    """
    sector = detect_sector(clip.pixels_THW, clip.regions[0] if clip.regions else None)
    require_wanted(mode_of(clip, sector), wanted)
    mask_HW = sector.mask_HW if sector else None
    keep_HW: NDArray[np.bool_] | None = None
    if kept == "sector":
        keep_HW = mask_HW
    elif kept == "region":
        keep_HW = _union(clip.regions + clip.traces, clip.pixels_THW.shape[1:])
    if kept != "screen" and keep_HW is None:
        raise EchoFedError(
            Code.SECTOR_EMPTY,
            f"no {kept} was found in a file",
            "it shows no 2-D image, or its region is not declared; try ingest.keep_pixels="
            + ("region" if kept == "sector" else "sector"),
        )
    pixels_THW = clip.pixels_THW if keep_HW is None else clip.pixels_THW * keep_HW
    return StoredClip(
        pixels_THW=pixels_THW,
        mask_HW=mask_HW,
        mm_per_pixel=clip.mm_per_pixel,
        frame_time_ms=clip.frame_time_ms,
        fan=sector.fan if sector else None,
        confidence=sector.confidence if sector else 0.0,
        num_blanked=0 if keep_HW is None else len(pixels_THW) * int((~keep_HW).sum()),
        annotation=clip.annotation,
    )


def _union(regions: tuple[Region, ...], size_HW: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if not regions:
        return None
    inside = np.zeros(size_HW, dtype=np.bool_)
    for region in regions:
        inside[region.slices()] = True
    return inside
