"""The bank of accepted statistics exports, in files named by their hash.

The folder is like the feature bank's: ``<sha256>.safetensors`` and ``index.json``.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shared.echo.expert import Block, ExpertCard
from shared.echo.schema import from_document, to_document
from shared.echo.statistics import StatisticsCard, StatisticsExport, read_statistics
from shared.errors import Code, EchoFedError
from shared.files import read_json, sha256_hex, write_bytes, write_json

INDEX_FILE = "index.json"
INDEX_VERSION = 1


@dataclass(frozen=True, slots=True)
class StatisticsEntry:
    """One accepted statistics export."""

    card: StatisticsCard
    sha256: str
    num_bytes: int
    accepted: str

    @property
    def name(self) -> str:
        """``site/dataset``."""
        return f"{self.card.site}/{self.card.dataset}"

    @property
    def experts(self) -> tuple[str, ...]:
        """Ids of the experts that it tells of."""
        return tuple(block.expert for block in self.card.blocks)


@dataclass(frozen=True, slots=True)
class _Index:
    entries: tuple[StatisticsEntry, ...] = ()
    version: int = INDEX_VERSION


class StatisticsBank:
    """The store of accepted statistics; like the feature bank it never changes one."""

    def __init__(self, root: Path) -> None:
        """Keep the folder, which need not exist yet."""
        self._root = root

    def add(
        self,
        data: bytes,
        experts: Mapping[str, ExpertCard],
        *,
        now: datetime,
        record: Callable[[], None] | None = None,
    ) -> StatisticsEntry:
        """Accept statistics; equal bytes a second time change nothing.

        Args:
            data: the export as it arrived.
            experts: cards of all known experts by id.
            now: the time of acceptance.
            record: called once they are accepted and before they count.

        Raises:
            EchoFedError: what ``read_statistics`` raises; EXPERT_UNKNOWN, FEATURES_INVALID or
                FEATURE_WIDTH where they do not fit their experts; DUPLICATE_REPLY for second,
                different statistics of the same content by the same experts; DISK_FULL.
        """
        card = read_statistics(data).card
        sha256 = sha256_hex(data)
        entry = StatisticsEntry(card, sha256, len(data), now.isoformat(timespec="seconds"))
        for known in self.entries():
            if known.sha256 == sha256:
                return known
            if _key(known) == _key(entry):
                raise EchoFedError(
                    Code.DUPLICATE_REPLY,
                    f"the bank has other statistics of {entry.name} by the same experts",
                    "nothing was changed; a changed dataset comes with a new content hash",
                )
        for block, weights in zip(card.blocks, card.expert_sha256, strict=True):
            _expect_expert(card.id, block, weights, experts)
        write_bytes(self._path(sha256), data)
        if record is not None:
            record()
        write_json(self._root / INDEX_FILE, to_document(_Index((*self.entries(), entry))))
        return entry

    def remove(self, hashes: Collection[str]) -> None:
        """Drop the exports of these hashes for good, and every file that no entry names."""
        entries = self.entries()
        kept = tuple(entry for entry in entries if entry.sha256 not in hashes)
        if len(kept) < len(entries):
            write_json(self._root / INDEX_FILE, to_document(_Index(kept)))
        named = {INDEX_FILE, *(self._path(entry.sha256).name for entry in kept)}
        for path in self._root.glob("*"):
            if path.name not in named:
                path.unlink()

    def files(self) -> frozenset[str]:
        """Hashes in the names of the files that lie here, indexed or not."""
        return frozenset(path.stem for path in self._root.glob("*.safetensors"))

    def entries(self) -> tuple[StatisticsEntry, ...]:
        """All accepted statistics in the order they came.

        Raises:
            EchoFedError: CARD_NEWER for an index of a later release.
        """
        path = self._root / INDEX_FILE
        if not path.is_file():
            return ()
        return from_document(_Index, read_json(path), version=INDEX_VERSION).entries

    def read(self, entry: StatisticsEntry) -> StatisticsExport:
        """Read accepted statistics back.

        Raises:
            EchoFedError: CHECKPOINT_CORRUPT where the file is gone or altered.
        """
        path = self._path(entry.sha256)
        data = path.read_bytes() if path.is_file() else b""
        if sha256_hex(data) != entry.sha256:
            raise EchoFedError(
                Code.CHECKPOINT_CORRUPT,
                f"the file of statistics {entry.card.id} is missing or altered",
                "restore the bank from a backup, or have the site send them again",
            )
        return read_statistics(data)

    def widest(self, name: str, content: str, experts: Sequence[str]) -> StatisticsEntry | None:
        """The last of those of a content that tell of most of the experts; None without any."""
        held = [e for e in self.entries() if (e.name, e.card.dataset_hash) == (name, content)]
        known = [len(set(entry.experts) & set(experts)) for entry in held]
        if not any(known):
            return None
        return held[max(range(len(held)), key=lambda place: (known[place], place))]

    def _path(self, sha256: str) -> Path:
        return self._root / f"{sha256}.safetensors"


def _key(entry: StatisticsEntry) -> tuple[str, str, frozenset[str]]:
    return entry.name, entry.card.dataset_hash, frozenset(entry.experts)


def _expect_expert(
    name: str, block: Block, weights: str, experts: Mapping[str, ExpertCard]
) -> None:
    expert = experts.get(block.expert)
    if expert is None:
        raise EchoFedError(
            Code.EXPERT_UNKNOWN,
            f"statistics {name} tell of expert {block.expert!r}, which this centre does not know",
            "collect the expert first",
        )
    if (weights, block.views) != (expert.weights_sha256, expert.views):
        raise EchoFedError(
            Code.FEATURES_INVALID,
            f"statistics {name} were made with other weights or views than {expert.id} has",
            "the site must fetch the expert again and condense again",
        )
    if (block.feature_width, block.num_evidence) != (expert.feature_width, len(expert.layers)):
        raise EchoFedError(
            Code.FEATURE_WIDTH,
            f"statistics {name} have other widths than expert {expert.id}",
            "the site must condense again with the experts named in the card",
        )
