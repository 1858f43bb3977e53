"""A site's own masks: a folder that holds, for a picture, a file of its name with another suffix.

``a/1.dcm`` has its masks in ``a/1.npz``, ``a/1.png`` or ``a/1.nii.gz``. A file without a suffix, or
with dots in its name, may keep the whole name: ``IM_0001.npz``, ``a/1.dcm.npz``.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from shared.echo.annotation import Annotation
from shared.errors import Code, EchoFedError
from site_client.datasets.annotations.label_maps import LabelMaps, MapFile
from site_client.datasets.beside import Beside

_KINDS = {
    ".nii.gz": "nifti", ".nii": "nifti", ".npz": "npz", ".png": "png", ".mhd": "mhd", ".mha": "mhd",
}  # fmt: skip
_NAMING = {"npz"}  # kinds that can say what their values mean


def find_masks(
    pictures: Iterable[str], masks: Iterable[str], *, folder: Path, structures: tuple[str, ...]
) -> dict[str, Beside]:
    """What lies beside each picture that has masks.

    Args:
        pictures: files, relative to their folder.
        masks: files below the folder of masks, relative to it.
        folder: of the masks.
        structures: name of each value, background first; empty where the files say it.

    Raises:
        EchoFedError: CONFIG_INVALID where no picture has masks, one has two, or nobody says what
            the values mean; LABEL_MAP_INVALID for names that the house does not know.
    """
    if structures:
        Annotation((0,), np.zeros((1, 1, 1), np.uint8), structures)  # refuses names it cannot hold
    by_stem = _by_stem(masks)
    beside = {}
    for picture in pictures:
        own = [entry for stem in _stems(picture) for entry in by_stem.get(stem, ())]
        if len(own) > 1:
            raise _invalid("a picture has several files of masks", "keep one of them")
        for kind, mask in own:
            if not structures and kind not in _NAMING:
                raise _invalid(
                    f"masks of kind {kind} do not say what their values mean",
                    "say it, background first: --structures background,lv,myocardium,la",
                )
            beside[picture] = Beside(LabelMaps(kind, (MapFile(folder / mask),), structures))
    if not beside:
        raise _invalid(
            "no picture has a file of masks with its name",
            "masks lie in folders of the same names as the pictures: a/1.dcm has a/1.npz, "
            "a/1.png or a/1.nii.gz",
        )
    return beside


def _by_stem(masks: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Kind and file of masks, by what the file is called without its suffix."""
    found: dict[str, list[tuple[str, str]]] = {}
    for mask in masks:
        lowered = mask.lower()
        suffix = next((suffix for suffix in _KINDS if lowered.endswith(suffix)), None)
        if suffix is not None:
            found.setdefault(mask[: -len(suffix)], []).append((_KINDS[suffix], mask))
    return found


def _stems(picture: str) -> set[str]:
    """What the masks of a picture may be called, without their suffix."""
    path = Path(picture)
    short = picture[: len(picture) - len(path.suffix)]
    if path.suffix.lower() == ".gz":
        short = short[: len(short) - len(Path(short).suffix)]
    return {picture, short}


def _invalid(what: str, hint: str) -> EchoFedError:
    return EchoFedError(Code.CONFIG_INVALID, what, hint)
