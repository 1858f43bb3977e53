"""A draft of a label map: the site's labels with the views proposed for them, for a person to sign.

Nothing here is ever applied: every proposal stands behind a ``#`` until somebody takes it away, and
a map without an entry for a label that occurs is refused by ``ingest``.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from shared.echo.ontology import ONTOLOGY_VERSION, load_ontology
from shared.errors import Code, EchoFedError
from site_client.datasets.labels import LabelRow, are_label_columns, read_label_table

_NEAREST = 4
_LIKENESS = 0.5  # below it the letters agree by chance
_UNDECIDED = "write-a-view-here"  # no view: a line that is taken in unread is refused
_HEAD = f"""\
# Label map: the site's labels -> views of the ontology (version {ONTOLOGY_VERSION}).
#
# Every line below is a proposal and NOT in force while it begins with '#'.
# For each label: read it, mend the view, then take the '#' before the label away. It may be
#   "label": VIEW            this view, or any view below it
#   "label": [VIEW, VIEW]    one of these, the label does not say which
#   "label": other           none of the views that the labels here stand for
#   "label": []              no view: its clips are kept and not learnt from
# A label that occurs and has no line in force is refused by ingest.
labels:
"""
_NEVER = """
# Views that no proposal above covers. Take the '#' away before those that are NEVER IMAGED here; a
# group such as doppler stands for all views below it. What stays behind '#' says nothing.
never_images:
"""
_FOLDS = """
# Views that are imaged and recorded under the label of another view, one a line:
#  SC-SAX: "label"
folds:
"""
_SIGNED = """
# Who read every line above, and when (2026-01-31). Stays at the site; ingest refuses real data
# under a map that nobody signed.
signed:
  by:
  date:
"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a label may mean.

    Args:
        view: the view of which the label is an id or alias, None where it is neither.
        nearest: views whose names look like the label, best first, where ``view`` is None.
    """

    label: str
    num_files: int
    view: str | None
    nearest: tuple[str, ...]


def find_labels_file(path: Path) -> Path:
    """The CSV that is meant: the file itself, or the one in a folder that starts as ours do.

    Raises:
        EchoFedError: CONFIG_MISSING where there is none, CONFIG_INVALID where there are several.
    """
    if not path.is_dir():
        return path
    found = [file for file in sorted(path.glob("*.csv")) if _starts_as_labels(file)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise EchoFedError(
            Code.CONFIG_MISSING,
            "the folder has no CSV with the columns file and label",
            "give the CSV itself, or start it with the line file,label or sop_uid,label",
        )
    raise EchoFedError(
        Code.CONFIG_INVALID, f"the folder has {len(found)} CSVs with labels", "give one of them"
    )


def propose_views(path: Path) -> tuple[Proposal, ...]:
    """A proposal for each label of a CSV, the most frequent first.

    Raises:
        EchoFedError: what ``read_label_table`` raises, FRAMES_MISSING where no row has a label.
    """
    counts = count_labels(read_label_table(path, path.parent).rows())
    if not counts:
        raise EchoFedError(
            Code.FRAMES_MISSING, f"no row of {path.name} has a label", "fill the column label"
        )
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(_propose(label, count) for label, count in ordered)


def count_labels(rows: Iterable[LabelRow]) -> Counter[str]:
    """Files by label; files without one are not counted."""
    return Counter(row.label for row in rows if row.label)


def draft_map(proposals: Sequence[Proposal]) -> str:
    """The YAML to sign; ``read_site_map`` refuses it as it is and takes it line by line."""
    views = load_ontology().views
    lines = [_HEAD]
    for proposal in proposals:
        lines.append(f"#  # {_number(proposal.num_files)}: {_reason(proposal)}")
        lines.append(f"#  {_scalar(proposal.label)}: {proposal.view or _UNDECIDED}\n")
    lines.append(_NEVER)
    lines += [f"#  - {leaf}  # {views[leaf].name}" for leaf in _uncovered(proposals)]
    return "\n".join(lines) + "\n" + _FOLDS + _SIGNED


def _propose(label: str, num_files: int) -> Proposal:
    ontology = load_ontology()
    try:
        return Proposal(label, num_files, ontology.find(label).id, ())
    except EchoFedError:
        near = ontology.nearest(label, count=_NEAREST, likeness=_LIKENESS)
        return Proposal(label, num_files, None, near)


def _reason(proposal: Proposal) -> str:
    views = load_ontology().views
    if proposal.view is not None:
        return f"a name of {proposal.view} ({views[proposal.view].name})"
    if not proposal.nearest:
        return "no view has a name like it"
    near = ", ".join(f"{view} ({views[view].name})" for view in proposal.nearest)
    return f"no view has this name; the nearest are {near}"


def _uncovered(proposals: Sequence[Proposal]) -> list[str]:
    ontology = load_ontology()
    nodes = [proposal.view for proposal in proposals if proposal.view is not None]
    leaves = ontology.leaves("echo")
    covered = ontology.covered(nodes, leaves)
    return [leaf for leaf in leaves if leaf not in covered]


def _scalar(text: str) -> str:
    """A text as one quoted line of YAML."""
    line: str = yaml.safe_dump(text, default_style='"', width=math.inf, allow_unicode=True)
    return line.strip()


def _number(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _starts_as_labels(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        columns = {name.strip().strip('"') for name in file.readline().split(",")}
    return are_label_columns(columns)
