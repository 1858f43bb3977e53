"""The annotation of a clip from files of label maps beside its own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.echo.annotation import Annotation
from shared.errors import Code, EchoFedError
from site_client.datasets.annotations import LABEL_READERS
from site_client.datasets.beside import place_labels


@dataclass(frozen=True, slots=True)
class MapFile:
    """One file of maps.

    Args:
        first: frame of the clip that its first map is of; None where it has all or says which.
    """

    path: Path
    first: int | None = None


@dataclass(frozen=True, slots=True)
class LabelMaps:
    """Files of one kind that together annotate a clip.

    Args:
        kind: name of the reader.
        files: of different frames.
        structures: name of each value, background first; empty where the files say it.
    """

    kind: str
    files: tuple[MapFile, ...]
    structures: tuple[str, ...] = ()

    def mark(self) -> str:
        """Names, sizes and times of change of the files, and how they are read."""
        stats = ((file, file.path.stat()) for file in self.files)
        told = (f"{f.path.name} {f.first} {s.st_size} {s.st_mtime_ns}" for f, s in stats)
        return " ".join((self.kind, ",".join(self.structures), *told))

    def annotate(self, size_THW: tuple[int, ...]) -> Annotation:
        """Read the files.

        Raises:
            EchoFedError: DATA_UNREADABLE, LABEL_UNMAPPED for a value without a name,
                LABEL_MAP_INVALID for names that are not the house's.
        """
        reader = LABEL_READERS[self.kind]
        raws = [reader(file.path) for file in self.files]
        placed = [
            place_labels(raw, size_THW, first=file.first)
            for raw, file in zip(raws, self.files, strict=True)
        ]
        if raws[0].structures and self.structures not in ((), raws[0].structures):
            raise EchoFedError(
                Code.LABEL_MAP_INVALID,
                f"an annotation names the structures {raws[0].structures}, not {self.structures}",
                "leave --structures out where the files name them",
            )
        frames = np.array([frame for numbers, _ in placed for frame in numbers])
        order = np.argsort(frames, kind="stable")
        landmarks = raws[0].landmarks_xy_px_F32 if len(raws) == 1 else None
        return Annotation(
            tuple(frames[order].tolist()),
            np.concatenate([labels_FHW for _, labels_FHW in placed])[order],
            raws[0].structures or self.structures,
            None if landmarks is None else landmarks[order],
        )
