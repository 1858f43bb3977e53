"""The folder of a site: datasets, models, ledger and secret key, each in its place."""

import difflib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.echo.expert import CARD_FILE, WEIGHTS_FILE, ExpertCard, read_expert_card
from shared.echo.manifest import ClipRecord, DatasetManifest, load_manifest, save_manifest
from shared.echo.model_card import (
    KINDS,
    ModelCard,
    ModelKind,
    kind_folder,
    read_model_card,
)
from shared.errors import Code, EchoFedError
from shared.files import read_json, sha256_hex, write_bytes, write_json
from site_client.clip_file import (
    ClipFacts,
    StoredClip,
    load_clip,
    pack_clip,
    read_facts,
    read_middle_frame,
)
from site_client.journal import Journal

log = logging.getLogger(__name__)
MANIFEST_FILE = "manifest.json"
ALIASES_FILE = "aliases.json"
PICTURES = "pictures"
"""Folder of what a synthesizer showed while it learnt: label maps of patients among it."""
_KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
        return load_clip(self._file_of(dataset, record))

    def facts(self, dataset: str, record: ClipRecord) -> ClipFacts:
        """What one clip is, without its pixels; raises as ``clip`` does."""
        return read_facts(self._file_of(dataset, record))

    def middle_frame(self, dataset: str, record: ClipRecord) -> NDArray[np.uint8]:
        """The frame in the middle of one clip (H, W); raises as ``clip`` does."""
        return read_middle_frame(self._file_of(dataset, record))

    def clip_path(self, dataset: str, name: str) -> Path:
        return self.dataset_folder(dataset) / "clips" / f"{name}.safetensors"

    def add_clip(self, dataset: str, clip: StoredClip) -> tuple[str, str]:
        """Store one clip under the SHA-256 of its file; a whole one that is there stays.

        Returns:
            File, relative to the dataset's folder, and SHA-256.
        """
        data = pack_clip(clip)
        digest = sha256_hex(data)
        path = self.clip_path(dataset, digest)
        if not (path.is_file() and file_sha256(path) == digest):
            write_bytes(path, data)
        return path.relative_to(self.dataset_folder(dataset)).as_posix(), digest

    def holds(self, dataset: str, record: ClipRecord) -> bool:
        """Whether a clip is there and is what it was."""
        path = self.dataset_folder(dataset) / record.file
        return path.is_file() and file_sha256(path) == record.sha256

    def preview_path(self, dataset: str) -> Path:
        """The sheet of a synthetic dataset's first images; goes when a clip of it goes."""
        return self.dataset_folder(dataset) / "preview.png"

    def journal(self, dataset: str) -> Journal:
        """What became of the files that were ingested into a dataset."""
        return Journal(self.dataset_folder(dataset) / "journal.jsonl")

    def _file_of(self, dataset: str, record: ClipRecord) -> Path:
        path = self.dataset_folder(dataset) / record.file
        if not path.is_file():
            raise EchoFedError(
                Code.CHECKPOINT_CORRUPT,
                f"clip {record.key} of dataset {dataset} is missing",
                "ingest the dataset again",
            )
        return path

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

    def expert_cards(self) -> list[ExpertCard]:
        """Cards of the experts at this site; a damaged one is passed over."""
        cards = []
        for name in self.experts():
            try:
                cards.append(read_expert_card(read_json(self.expert_folder(name) / CARD_FILE)))
            except EchoFedError as error:
                log.warning("expert %s is not looked at: %s", name, error)
        return cards

    def remove_expert(self, expert: str) -> None:
        """Delete an expert that is here."""
        _remove(self.require_expert(expert))

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

    def remove_fusion(self, fusion: str) -> None:
        """Delete a fusion that is here; where it serves, nothing does from now on."""
        folder = self.require_fusion(fusion)
        if self.serving_fusion() == fusion:
            (self.root / "serving.json").unlink()
        _remove(folder)

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

    def segmenters(self) -> tuple[str, ...]:
        """Ids of the segmenters at this site, its own and those fetched."""
        return _complete(self.root / "segmenters", CARD_FILE)

    def segmenter_folder(self, segmenter: str) -> Path:
        return self.model_folder("segmenter", segmenter)

    def require_segmenter(self, segmenter: str) -> Path:
        """The folder of a segmenter that is here.

        Raises:
            EchoFedError: MODEL_UNKNOWN with the nearest.
        """
        if segmenter not in self.segmenters():
            raise _unknown(Code.MODEL_UNKNOWN, "segmenter", segmenter, self.segmenters())
        return self.segmenter_folder(segmenter)

    def remove_segmenter(self, segmenter: str) -> None:
        """Delete a segmenter that is here; its aliases stand for nothing from now on."""
        self._remove_model(self.require_segmenter(segmenter))

    def synthesizers(self) -> tuple[str, ...]:
        """Ids of the synthesizers at this site, its own and those fetched."""
        return _complete(self.root / "synthesizers", CARD_FILE)

    def synthesizer_folder(self, synthesizer: str) -> Path:
        return self.model_folder("synthesizer", synthesizer)

    def require_synthesizer(self, synthesizer: str) -> Path:
        """The folder of a synthesizer that is here.

        Raises:
            EchoFedError: MODEL_UNKNOWN with the nearest.
        """
        if synthesizer not in self.synthesizers():
            raise _unknown(Code.MODEL_UNKNOWN, "synthesizer", synthesizer, self.synthesizers())
        return self.synthesizer_folder(synthesizer)

    def remove_synthesizer(self, synthesizer: str) -> None:
        """Delete a synthesizer that is here; its aliases stand for nothing from now on."""
        self._remove_model(self.require_synthesizer(synthesizer))

    def model_folder(self, kind: ModelKind, model: str) -> Path:
        """Where card and weights of a segmenter or a synthesizer lie."""
        return self.root / kind_folder(kind) / model

    def models(self) -> dict[str, Path]:
        """Folders of the segmenters and synthesizers here, by id."""
        return {
            name: self.model_folder(kind, name)
            for kind in KINDS
            for name in _complete(self.root / kind_folder(kind), CARD_FILE)
        }

    def model_cards(self) -> list[ModelCard]:
        """Cards of the segmenters and synthesizers here; a damaged one is passed over."""
        cards = []
        for name, folder in self.models().items():
            try:
                cards.append(read_model_card(read_json(folder / CARD_FILE)))
            except EchoFedError as error:
                log.warning("model %s is not looked at: %s", name, error)
        return cards

    def remove_pictures(self, synthesizers: Collection[str]) -> None:
        """Delete what synthesizers showed while they learnt, and all that unfinished ones did."""
        shown = [self.synthesizer_folder(name) / PICTURES for name in synthesizers]
        for folder in (*shown, *(self.root / "runs").glob(f"*/{PICTURES}")):
            if folder.is_dir():
                shutil.rmtree(folder)

    def aliases(self) -> dict[str, str]:
        """What each alias stands for here: the id of a segmenter or a synthesizer."""
        path = self.root / ALIASES_FILE
        return {str(a): str(i) for a, i in read_json(path).items()} if path.is_file() else {}

    def aliased(self, alias: str) -> str | None:
        """Id of what an alias stands for, None for an unknown alias."""
        return self.aliases().get(alias)

    def set_alias(self, alias: str, model: str) -> None:
        """Let an alias stand for a segmenter or a synthesizer that is here.

        Raises:
            EchoFedError: CONFIG_INVALID for what is no name, MODEL_UNKNOWN with the nearest.
        """
        require_name(alias)
        known = self.models()
        if model not in known:
            raise _unknown(Code.MODEL_UNKNOWN, "model", model, list(known))
        write_json(self.root / ALIASES_FILE, self.aliases() | {alias: model})

    def _remove_model(self, folder: Path) -> None:
        kept = {alias: model for alias, model in self.aliases().items() if model != folder.name}
        write_json(self.root / ALIASES_FILE, kept)
        _remove(folder)


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


def _remove(folder: Path) -> None:
    """The weights first: without its card, a folder would not be looked at again."""
    (folder / WEIGHTS_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _complete(folder: Path, marker: str) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{marker}")))


def _unknown(code: Code, kind: str, name: str, known: Sequence[str]) -> EchoFedError:
    near = difflib.get_close_matches(name, known, n=1)
    found = f"known: {', '.join(known)}" if known else f"this site has no {kind} yet"
    hint = f"did you mean {near[0]!r}?" if near else found
    return EchoFedError(code, f"no {kind} is called {name!r}", hint)
