"""The stored streams of a folder: ``<name>/seed-<n>/``, the seeds of a name side by side."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from aggregator.benchmark.stream import STREAM_FILE, Stream, open_stream
from shared.errors import Code, EchoFedError

log = logging.getLogger(__name__)


def find_streams(folder: Path) -> dict[str, tuple[Stream, ...]]:
    """Open every complete stream below a folder, by name, its seeds in order.

    Raises:
        EchoFedError: FRAMES_MISSING where there is none, CARD_NEWER, CHECKPOINT_CORRUPT,
            CONFIG_INVALID where seeds of one name cannot be averaged.
    """
    found: dict[str, list[Stream]] = defaultdict(list)
    for path in sorted(folder.glob("*/seed-*")):
        if (path / STREAM_FILE).is_file():
            stream = open_stream(path)
            found[stream.record.name].append(stream)
        else:
            log.warning("%s/%s is not complete and is left out", path.parent.name, path.name)
    if not found:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            f"no complete stream lies in {folder.name}/<name>/seed-<n>",
            "run echofed-aggregator streams, or pass its folder with --streams",
        )
    for name, streams in found.items():
        streams.sort(key=lambda one: one.record.seed)
        _expect_alike(name, streams)
    return {name: tuple(streams) for name, streams in found.items()}


def _expect_alike(name: str, streams: Sequence[Stream]) -> None:
    """Refuse to average what is not the same stream under other seeds."""
    kinds = {
        (one.record.origin, tuple((a.name, a.level, a.is_foreign) for a in one.record.arrivals))
        for one in streams
    }
    if len(kinds) > 1 or len({one.record.seed for one in streams}) < len(streams):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"the seeds of stream {name!r} differ in origin or datasets, or one comes twice",
            "keep streams of different plans under different names",
        )
