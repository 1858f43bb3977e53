"""The feature bank: every accepted export, in files named by their hash, and the joining of rows.

Layout of the folder: ``<sha256>.safetensors`` per export and ``index.json``; an export counts once
the index names it, so a death in between leaves a file that is written again, never half a bank.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.joined_rows import DatasetRows, JoinedRows
from aggregator.statistics_bank import StatisticsBank, StatisticsEntry
from shared.echo.expert import Block, ExpertCard
from shared.echo.features import ExportCard, FeatureExport, read_export
from shared.echo.schema import from_document, to_document
from shared.errors import Code, EchoFedError
from shared.files import read_json, sha256_hex, write_bytes, write_json

INDEX_FILE = "index.json"
INDEX_VERSION = 1
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class BankEntry:
    """One accepted export: its card, the hash and size of its file, and when it was accepted."""

    card: ExportCard
    sha256: str
    num_bytes: int
    accepted: str


@dataclass(frozen=True, slots=True)
class _Index:
    entries: tuple[BankEntry, ...] = ()
    version: int = INDEX_VERSION


class FeatureBank:
    """The store of accepted exports; it never changes one, and loses one by withdrawal only."""

    def __init__(self, root: Path) -> None:
        """Keep the folder, which need not exist yet."""
        self._root = root
        self.statistics = StatisticsBank(root / "statistics")

    def add(
        self,
        data: bytes,
        experts: Mapping[str, ExpertCard],
        *,
        now: datetime,
        record: Callable[[], None] | None = None,
    ) -> BankEntry:
        """Accept an export; equal bytes a second time change nothing.

        Args:
            data: the export as it arrived.
            experts: cards of all known experts by id.
            now: the time of acceptance.
            record: called once the export is accepted and before it counts, so that nothing is
                ever stored of which no record tells.

        Raises:
            EchoFedError: what ``read_export`` raises; EXPERT_UNKNOWN, FEATURES_INVALID or
                FEATURE_WIDTH where it does not fit its expert; FEATURES_INVALID where it gainsays
                another export of the same content; DUPLICATE_REPLY for a second, different export
                of the same content by the same expert; DISK_FULL.
        """
        export = read_export(data)
        card = export.card
        sha256 = sha256_hex(data)
        entries = self.entries()
        for entry in entries:
            if entry.sha256 == sha256:
                return entry
        _check_expert(card, experts)
        for entry in entries:
            _check_against(card, entry.card)
        self._require_agreement(export, entries)
        entry = BankEntry(card, sha256, len(data), now.isoformat(timespec="seconds"))
        write_bytes(self._path(sha256), data)
        if record is not None:
            record()
        write_json(self._root / INDEX_FILE, to_document(_Index((*entries, entry))))
        return entry

    def remove(self, hashes: Collection[str]) -> None:
        """Drop the exports of these hashes for good, and every file that no entry names.

        The index goes first, so that a death in between leaves files which the next call deletes.
        """
        entries = self.entries()
        kept = tuple(entry for entry in entries if entry.sha256 not in hashes)
        if len(kept) < len(entries):
            write_json(self._root / INDEX_FILE, to_document(_Index(kept)))
        named = {INDEX_FILE, *(self._path(entry.sha256).name for entry in kept)}
        for path in self._root.glob("*"):
            if path.is_file() and path.name not in named:
                path.unlink()
        self.statistics.remove(hashes)

    def files(self) -> frozenset[str]:
        """Hashes in the names of the files that lie here, indexed or not."""
        here = {path.stem for path in self._root.glob("*.safetensors")}
        return self.statistics.files() | here

    def experts(self, contents: Mapping[str, str] | None = None) -> frozenset[str]:
        """Experts that an export tells of, of any content or of those named."""
        told = {_key(entry.card) for entry in self.entries()} | self._told_by_statistics()
        return frozenset(
            expert
            for name, content, expert in told
            if contents is None or contents.get(name) == content
        )

    def contents(self) -> tuple[tuple[str, str], ...]:
        """Dataset name and content hash of every export, rows before statistics."""
        return (
            *((dataset_name(entry.card), entry.card.dataset_hash) for entry in self.entries()),
            *((entry.name, entry.card.dataset_hash) for entry in self.statistics.entries()),
        )

    def entries(self) -> tuple[BankEntry, ...]:
        """All accepted exports in the order they came.

        Raises:
            EchoFedError: CARD_NEWER for an index of a later release.
        """
        path = self._root / INDEX_FILE
        if not path.is_file():
            return ()
        return from_document(_Index, read_json(path), version=INDEX_VERSION).entries

    def read(self, entry: BankEntry) -> FeatureExport:
        """Read an accepted export back.

        Raises:
            EchoFedError: CHECKPOINT_CORRUPT where the file is gone or altered.
        """
        path = self._path(entry.sha256)
        data = path.read_bytes() if path.is_file() else b""
        if sha256_hex(data) != entry.sha256:
            raise EchoFedError(
                Code.CHECKPOINT_CORRUPT,
                f"the file of export {entry.card.id} is missing or altered",
                "restore the bank from a backup, or have the site send the export again",
            )
        return read_export(data)

    def latest(self) -> dict[str, str]:
        """Dataset name (``site/dataset``) -> hash of the content that was last accepted."""
        return dict(self.contents())

    def lacks(
        self, datasets: Mapping[str, str], experts: Sequence[str]
    ) -> dict[str, tuple[str, ...]]:
        """What would have to be asked for: dataset name -> experts of which ``join`` finds nothing.

        Args:
            datasets: name -> content hash, as in ``latest``.
            experts: ids.
        """
        condensed = self._chosen_statistics(datasets, experts)
        lacking = self.lacks_rows(datasets, experts) | {
            name: tuple(expert for expert in experts if expert not in entry.experts)
            for name, entry in condensed.items()
        }
        return {name: absent for name, absent in lacking.items() if absent}

    def lacks_rows(
        self, datasets: Mapping[str, str], experts: Sequence[str]
    ) -> dict[str, tuple[str, ...]]:
        """The same of rows alone, whatever statistics tell."""
        held = {_key(entry.card) for entry in self.entries()}
        lacking = {
            name: tuple(expert for expert in experts if (name, content, expert) not in held)
            for name, content in datasets.items()
        }
        return {name: absent for name, absent in lacking.items() if absent}

    def join(self, experts: Sequence[str], datasets: Mapping[str, str] | None = None) -> JoinedRows:
        """Bring together, frame by frame, what the experts saw in each dataset.

        Statistics stand for a dataset where they tell of more experts than its rows do.

        Args:
            experts: ids, in the order of the blocks.
            datasets: name -> content hash; by default the latest of everything in the bank.

        Raises:
            EchoFedError: FRAMES_MISSING for no rows at all, EXPERT_UNKNOWN for an expert without
                any export, CHECKPOINT_CORRUPT for a file that is gone or altered.
        """
        asked = self.latest() if datasets is None else dict(datasets)
        chosen = self._chosen_statistics(asked, experts)
        condensed = {name: self.statistics.read(entry) for name, entry in chosen.items()}
        held = {_key(entry.card): entry for entry in self.entries()}
        found = {
            name: [held.get((name, content, expert)) for expert in experts]
            for name, content in asked.items()
            if name not in condensed
        }
        known = {e.card.expert: _block_of(e.card) for column in found.values() for e in column if e}
        known |= {block.expert: block for one in condensed.values() for block in one.card.blocks}
        for expert in experts:
            if expert not in known:
                raise EchoFedError(
                    Code.EXPERT_UNKNOWN,
                    f"the bank holds no export by expert {expert} of these datasets",
                    "run increment while a site is reachable, or leave the expert out",
                )
        blocks = tuple(known[expert] for expert in experts)
        joined = [self._join_one(column, blocks) for column in found.values() if any(column)]
        if not condensed and not any(len(rows.label_N) for rows in joined):
            raise EchoFedError(
                Code.FRAMES_MISSING, "the bank holds no rows of these datasets", "run increment"
            )
        missing = self.lacks(asked, experts)
        return JoinedRows(blocks, tuple(joined), missing, tuple(condensed.values()))

    def _chosen_statistics(
        self, asked: Mapping[str, str], experts: Sequence[str]
    ) -> dict[str, StatisticsEntry]:
        """Statistics of the datasets for which they tell of more experts than rows do."""
        held = {_key(entry.card) for entry in self.entries()}
        chosen = {}
        for name, content in asked.items():
            entry = self.statistics.widest(name, content, experts)
            num_rows = sum((name, content, expert) in held for expert in experts)
            if entry is not None and len(set(entry.experts) & set(experts)) > num_rows:
                chosen[name] = entry
        return chosen

    def _told_by_statistics(self) -> set[tuple[str, str, str]]:
        return {
            (entry.name, entry.card.dataset_hash, expert)
            for entry in self.statistics.entries()
            for expert in entry.experts
        }

    def _join_one(self, column: Sequence[BankEntry | None], blocks: Sequence[Block]) -> DatasetRows:
        exports = [None if entry is None else self.read(entry) for entry in column]
        seen = [export for export in exports if export is not None]
        order = _common_rows(seen)
        placed = iter(order)
        order_of = [None if export is None else next(placed) for export in exports]
        first, rows = seen[0], order[0]
        num = len(rows)

        def gather(name: str, widths: Sequence[int]) -> tuple[NDArray[np.float32], ...]:
            return tuple(
                np.zeros((num, width), np.float32)
                if export is None
                else getattr(export, name)[places].astype(np.float32)
                for export, places, width in zip(exports, order_of, widths, strict=True)
            )

        card = first.card
        return DatasetRows(
            name=dataset_name(card),
            dataset_hash=card.dataset_hash,
            origin=card.origin,
            labels=card.labels,
            label_views=card.label_views,
            exports=tuple(export.card.id for export in seen),
            available=tuple(export is not None for export in exports),
            num_dropped=max(export.card.num_rows for export in seen) - num,
            label_N=first.label_N[rows].astype(np.int64),
            split_N=first.split_N[rows].astype(np.int64),
            pass_N=first.pass_N[rows].astype(np.int64),
            clip_N=first.clip_N[rows].astype(np.int64),
            patient_N=first.patient_N[rows].astype(np.int64),
            features=gather("features_ND", [block.feature_width for block in blocks]),
            logits=gather("logits_NC", [len(block.views) for block in blocks]),
            evidence=gather("discrepancy_NL", [block.num_evidence for block in blocks]),
            policy_version=min(export.card.policy_version for export in seen),
            annotated=card.annotated,
            never_images=card.never_images,
            folds=card.folds,
            minimum_patients=max(export.card.minimum_patients for export in seen),
        )

    def _require_agreement(self, export: FeatureExport, entries: Sequence[BankEntry]) -> None:
        """Refuse an export that tells other labels or splits than one of the same content."""
        content = _key(export.card)[:2]
        other = next((self.read(e) for e in entries if _key(e.card)[:2] == content), None)
        if other is None:
            return
        mine, theirs = _common_rows([export, other])
        for name in ("label_N", "split_N"):
            if not np.array_equal(getattr(export, name)[mine], getattr(other, name)[theirs]):
                raise EchoFedError(
                    Code.FEATURES_INVALID,
                    f"{name} of export {export.card.id} contradicts export {other.card.id}",
                    "the site must extract again from the same content",
                )

    def _path(self, sha256: str) -> Path:
        return self._root / f"{sha256}.safetensors"


def dataset_name(card: ExportCard) -> str:
    """``site/dataset``: a dataset's name is unique at its site only."""
    return f"{card.site}/{card.dataset}"


def _key(card: ExportCard) -> tuple[str, str, str]:
    return dataset_name(card), card.dataset_hash, card.expert


def _block_of(card: ExportCard) -> Block:
    return Block(card.expert, card.views, card.feature_width, card.num_evidence)


def _check_expert(card: ExportCard, experts: Mapping[str, ExpertCard]) -> None:
    expert = experts.get(card.expert)
    if expert is None:
        raise EchoFedError(
            Code.EXPERT_UNKNOWN,
            f"export {card.id} is by expert {card.expert!r}, which this centre does not know",
            "collect the expert first",
        )
    if card.expert_sha256 != expert.weights_sha256 or card.views != expert.views:
        raise EchoFedError(
            Code.FEATURES_INVALID,
            f"export {card.id} was made with other weights or views than expert {expert.id} has",
            "the site must fetch the expert again and extract again",
        )
    widths = (card.feature_width, card.num_evidence)
    if widths != (expert.feature_width, len(expert.layers)):
        raise EchoFedError(
            Code.FEATURE_WIDTH,
            f"export {card.id} has {widths[0]} features and {widths[1]} evidence values, "
            f"its expert {expert.feature_width} and {len(expert.layers)}",
            "the site must extract again with the expert named in the card",
        )


def _check_against(card: ExportCard, other: ExportCard) -> None:
    if _key(other) == _key(card) or other.id == card.id:
        raise EchoFedError(
            Code.DUPLICATE_REPLY,
            f"the bank has another export of {dataset_name(card)} by expert {card.expert}",
            "nothing was changed; a changed dataset comes with a new content hash",
        )
    same_content = _key(other)[:2] == _key(card)[:2]
    if same_content and _vocabulary(other) != _vocabulary(card):
        raise EchoFedError(
            Code.FEATURES_INVALID,
            f"exports {card.id} and {other.id} of the same content differ in vocabulary",
            "the site must extract again",
        )


def _vocabulary(card: ExportCard) -> tuple[object, ...]:
    """Labels and what they name; what they rule out is part of the content's hash."""
    return card.labels, card.label_views, card.folds


def _common_rows(exports: Sequence[FeatureExport]) -> list[NDArray[np.intp]]:
    """For each export the places of the rows that all have, ordered by frame and pass."""
    keys = [np.stack([e.frame_N, e.pass_N.astype(np.int64)], axis=1) for e in exports]
    _, place_M = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    is_common = np.bincount(place_M) == len(exports)
    ends = np.cumsum([len(key) for key in keys])[:-1]
    order = []
    for place_N in np.split(place_M, ends):
        kept = np.flatnonzero(is_common[place_N])
        order.append(kept[np.argsort(place_N[kept])])
    return order
