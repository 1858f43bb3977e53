"""The folder of a site: datasets, experts, fusions, ledger and secret key, each in its place."""

import difflib
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.echo.expert import CARD_FILE
from shared.echo.frame import MillimetresPerPixel
from shared.echo.manifest import ClipRecord, DatasetManifest, load_manifest, save_manifest
from shared.echo.sector import Fan
from shared.errors import Code, EchoFedError
from shared.files import load_arrays, read_json, save_arrays, sha256_hex, write_bytes, write_json
from site_client.datasets.raw import Mode

MANIFEST_FILE = "manifest.json"
CLIP_VERSION = 1
_KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, eq=False)
class StoredClip:
    """A de-identified clip as it lies on disk.

    Args:
        pixels_THW: uint8 grey.
        mask_HW: True inside the sector, None where no sector was found.
        mm_per_pixel: spacing of (rows, columns), None where no calibration is known.
        frame_time_ms: time between frames, None where unknown.
        fan: geometry of the sector, None where none could be fitted.
        confidence: of the mask; 0 where there is none.
        mode: what it shows beside tissue.
    """

    pixels_THW: NDArray[np.uint8]
    mask_HW: NDArray[np.bool_] | None
    mm_per_pixel: MillimetresPerPixel | None
    frame_time_ms: float | None
    fan: Fan | None = None
    confidence: float = 0.0
    mode: Mode = "b_mode"


class SiteStore:
    """What a site keeps, by name; nothing in it carries a patient's identity."""

    def __init__(self, root: Path) -> None:
        """Look at a folder; nothing is created."""
        self.root = root

    @property
    def ledger_path(self) -> Path:
        return self.root / "ledger.sqlite"

    @property
    def identity_folder(self) -> Path:
        return self.root / "identity"

    def create_key(self) -> None:
        """Make the site's secret key once; readable by its owner only."""
        path = self.identity_folder / "pseudonym.key"
        if path.is_file():
            return
        self.identity_folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.identity_folder, 0o700)
        write_bytes(path, secrets.token_hex(_KEY_BYTES).encode())
        os.chmod(path, 0o600)

    def key(self) -> bytes:
        """The site's secret key of all pseudonyms.

        Raises:
            EchoFedError: CONFIG_MISSING before ``init``.
        """
        path = self.identity_folder / "pseudonym.key"
        if not path.is_file():
            raise EchoFedError(
                Code.CONFIG_MISSING, "the site has no key for pseudonyms", "run echofed-site init"
            )
        return bytes.fromhex(path.read_text())

    def datasets(self) -> tuple[str, ...]:
        """Ids of the datasets that were ingested completely."""
        return _complete(self.root / "datasets", MANIFEST_FILE)

    def dataset_folder(self, dataset: str) -> Path:
        return self.root / "datasets" / dataset

    def manifest(self, dataset: str) -> DatasetManifest:
        """The manifest of a dataset.

        Raises:
            EchoFedError: DATASET_UNKNOWN with the nearest.
        """
        if dataset not in self.datasets():
            raise _unknown(Code.DATASET_UNKNOWN, "dataset", dataset, self.datasets())
        return load_manifest(self.dataset_folder(dataset) / MANIFEST_FILE)

    def save_manifest(self, manifest: DatasetManifest) -> None:
        """Write the manifest; from now on the dataset counts as ingested."""
        save_manifest(manifest, self.dataset_folder(manifest.id) / MANIFEST_FILE)

    def clip(self, dataset: str, record: ClipRecord) -> StoredClip:
        """Read one clip.

        Raises:
            EchoFedError: CHECKPOINT_CORRUPT where the file is missing or altered, CARD_NEWER.
        """
        path = self.dataset_folder(dataset) / record.file
        if not path.is_file():
            raise EchoFedError(
                Code.CHECKPOINT_CORRUPT,
                f"clip {record.key} of dataset {dataset} is missing",
                "ingest the dataset again",
            )
        return load_clip(path)

    def clip_path(self, dataset: str, key: str) -> Path:
        return self.dataset_folder(dataset) / "clips" / f"{key}.safetensors"

    def save_clip(self, dataset: str, key: str, clip: StoredClip) -> str:
        """Write one clip atomically and return the SHA-256 of the file."""
        return save_clip(self.clip_path(dataset, key), clip)

    def remove_stray_clips(self, manifest: DatasetManifest) -> None:
        """Delete clips that the manifest does not name, left by a run that ended early."""
        folder = self.dataset_folder(manifest.id) / "clips"
        named = {Path(record.file).name for record in manifest.clips}
        for path in folder.iterdir():
            if path.name not in named:
                path.unlink()

    def experts(self) -> tuple[str, ...]:
        """Ids of the experts at this site, its own and those received."""
        return _complete(self.root / "experts", CARD_FILE)

    def expert_folder(self, expert: str) -> Path:
        return self.root / "experts" / expert

    def require_expert(self, expert: str) -> Path:
        """The folder of an expert that is here.

        Raises:
            EchoFedError: EXPERT_UNKNOWN with the nearest.
        """
        if expert not in self.experts():
            raise _unknown(Code.EXPERT_UNKNOWN, "expert", expert, self.experts())
        return self.expert_folder(expert)

    def fusions(self) -> tuple[str, ...]:
        """Ids of the fusions at this site."""
        return _complete(self.root / "fusions", CARD_FILE)

    def fusion_folder(self, fusion: str) -> Path:
        return self.root / "fusions" / fusion

    def require_fusion(self, fusion: str) -> Path:
        """The folder of a fusion that is here.

        Raises:
            EchoFedError: FUSION_UNKNOWN with the nearest.
        """
        if fusion not in self.fusions():
            raise _unknown(Code.FUSION_UNKNOWN, "fusion", fusion, self.fusions())
        return self.fusion_folder(fusion)

    def serving_fusion(self) -> str | None:
        """Id of the fusion that predictions use, None before the first was promoted."""
        path = self.root / "serving.json"
        return str(read_json(path)["fusion"]) if path.is_file() else None

    def set_serving(self, fusion: str) -> None:
        """Let predictions use a fusion that is here."""
        self.require_fusion(fusion)
        write_json(self.root / "serving.json", {"fusion": fusion})


def save_clip(path: Path, clip: StoredClip) -> str:
    """Write a clip atomically and return the SHA-256 of the file; equal clips give equal files."""
    header = {
        "version": CLIP_VERSION,
        "mm_per_pixel": clip.mm_per_pixel,
        "frame_time_ms": clip.frame_time_ms,
        "fan": asdict(clip.fan) if clip.fan else None,
        "confidence": clip.confidence,
        "mode": clip.mode,
    }
    arrays: dict[str, NDArray[np.uint8]] = {"pixels_THW": clip.pixels_THW}
    if clip.mask_HW is not None:
        arrays["mask_packed"] = np.packbits(clip.mask_HW)
    return save_arrays(path, arrays, {"clip": json.dumps(header, sort_keys=True)})


def load_clip(path: Path) -> StoredClip:
    """Read a clip.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT, or CARD_NEWER for one that a later release wrote.
    """
    arrays, metadata = load_arrays(path)
    header = json.loads(metadata["clip"])
    if header["version"] > CLIP_VERSION:
        raise EchoFedError(
            Code.CARD_NEWER,
            f"a clip of version {header['version']} is newer than this release",
            "upgrade",
        )
    pixels_THW = arrays["pixels_THW"]
    mask_HW = None
    if "mask_packed" in arrays:
        size = pixels_THW.shape[1] * pixels_THW.shape[2]
        bits = np.unpackbits(arrays["mask_packed"], count=size)
        mask_HW = bits.reshape(pixels_THW.shape[1:]).astype(np.bool_)
    spacing, fan = header["mm_per_pixel"], header["fan"]
    return StoredClip(
        pixels_THW=pixels_THW,
        mask_HW=mask_HW,
        mm_per_pixel=(spacing[0], spacing[1]) if spacing else None,
        frame_time_ms=header["frame_time_ms"],
        fan=Fan(**{**fan, "apex_rc": tuple(fan["apex_rc"])}) if fan else None,
        confidence=header["confidence"],
        mode=header.get("mode", "b_mode"),
    )


def require_name(name: str) -> None:
    """Check that a name can stand in paths, tables and on the wire.

    Raises:
        EchoFedError: CONFIG_INVALID.
    """
    if not _NAME.fullmatch(name):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{name!r} is not a name",
            "use letters, digits, '-', '_' and '.', at most 64, starting with a letter or digit",
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return sha256_hex(path.read_bytes())


def _complete(folder: Path, marker: str) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{marker}")))


def _unknown(code: Code, kind: str, name: str, known: Sequence[str]) -> EchoFedError:
    near = difflib.get_close_matches(name, known, n=1)
    found = f"known: {', '.join(known)}" if known else f"this site has no {kind} yet"
    hint = f"did you mean {near[0]!r}?" if near else found
    return EchoFedError(code, f"no {kind} is called {name!r}", hint)
