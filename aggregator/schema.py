"""The schema of the centre's database: one class per table and the steps that bring old ones up.

The schema carries a version, and migrations are functions in this file, run in order at opening:
there is one schema, one writer and no branch, so that Alembic's revision graph and environment
files would be more to keep right than the steps themselves. Times are ISO 8601 text in UTC.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import JSON, BigInteger, Connection, Text, inspect, text
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from shared.errors import Code, EchoFedError


class Row(MappedAsDataclass, DeclarativeBase):
    """Base of every table: a plain dataclass once it is read."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        dict[str, Any]: JSON,
        list[str]: JSON,
        int: BigInteger,
        str: Text,
    }


class Site(Row):
    """An admitted site; ``absent_since`` is empty while it answers."""

    __tablename__ = "sites"
    code: Mapped[str] = mapped_column(primary_key=True)
    key_fingerprint: Mapped[str]
    enrolled: Mapped[str]
    last_seen: Mapped[str] = mapped_column(default="")
    absent_since: Mapped[str] = mapped_column(default="")


class Announcement(Row):
    """A dataset as its site last described it.

    ``patients`` counts by label, None below the site's minimum; ``fused_in`` is the fusion that
    first contained this very content; ``withdrawn`` the time from which its site, though reachable,
    described it no more.
    """

    __tablename__ = "datasets"
    site: Mapped[str] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(primary_key=True)
    hash: Mapped[str]
    origin: Mapped[str]
    labels: Mapped[dict[str, Any]]
    patients: Mapped[dict[str, Any]]
    artefacts: Mapped[list[str]]
    policy_revision: Mapped[int]
    announced: Mapped[str]
    fused_in: Mapped[str] = mapped_column(default="")
    withdrawn: Mapped[str] = mapped_column(default="")


class Expert(Row):
    """An expert whose card and weights lie in the centre's ``experts`` folder."""

    __tablename__ = "experts"
    id: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str]
    dataset_hashes: Mapped[list[str]]
    weights_sha256: Mapped[str]
    card: Mapped[dict[str, Any]]
    arrived: Mapped[str]


class Increment(Row):
    """One increment: ``running`` until ``finished`` or ``failed``; a running one is resumed."""

    __tablename__ = "increments"
    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    started: Mapped[str]
    step: Mapped[str] = mapped_column(default="")
    note: Mapped[str] = mapped_column(default="")
    finished: Mapped[str] = mapped_column(default="")
    fusion: Mapped[str] = mapped_column(default="")
    error: Mapped[str] = mapped_column(default="")
    outcome: Mapped[dict[str, Any]] = mapped_column(default_factory=dict)


class Step(Row):
    """What one step of one attempt cost; ``detail`` holds seconds by site and the like."""

    __tablename__ = "steps"
    increment: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    started: Mapped[str]
    seconds: Mapped[float]
    cpu_seconds: Mapped[float]
    bytes_in: Mapped[int]
    bytes_out: Mapped[int]
    detail: Mapped[dict[str, Any]]


class Fusion(Row):
    """A trained fusion; ``recipe`` hashes all it was trained from: nothing is trained twice."""

    __tablename__ = "fusions"
    id: Mapped[str] = mapped_column(primary_key=True)
    recipe: Mapped[str]
    trained: Mapped[str]
    datasets: Mapped[dict[str, Any]]
    report: Mapped[dict[str, Any]]
    model_version: Mapped[str] = mapped_column(default="")


class Evaluation(Row):
    """Figures that a site reported about a fusion on one of its datasets."""

    __tablename__ = "evaluations"
    fusion: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(primary_key=True)
    dataset_hash: Mapped[str]
    document: Mapped[dict[str, Any]]
    arrived: Mapped[str]


class Withdrawal(Row):
    """A dataset that its site took back; its name does not come again.

    ``status`` is ``asked`` by its site, ``begun`` by an operator, or ``finished``; ``impact`` lists
    what was affected, ``outcome`` is the report.
    """

    __tablename__ = "withdrawals"
    site: Mapped[str] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    since: Mapped[str]
    impact: Mapped[dict[str, Any]] = mapped_column(default_factory=dict)
    outcome: Mapped[dict[str, Any]] = mapped_column(default_factory=dict)


Migration = Callable[[Connection], None]


def _create_tables(connection: Connection) -> None:
    Row.metadata.create_all(connection)


def _add_withdrawals(connection: Connection) -> None:
    Row.metadata.tables["withdrawals"].create(connection, checkfirst=True)


MIGRATIONS: tuple[Migration, ...] = (_create_tables, _add_withdrawals)
"""Step i leads from version i to i + 1; a released step is never edited, only followed."""
STATE_VERSION = len(MIGRATIONS)


def migrate(connection: Connection) -> None:
    """Create the tables or bring them to this release's version.

    Raises:
        EchoFedError: STATE_NEWER for a schema of a later release.
    """
    version = 0
    if inspect(connection).has_table("meta"):
        version = int(connection.execute(text("SELECT version FROM meta")).scalar_one())
    else:
        connection.execute(text("CREATE TABLE meta (version INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO meta VALUES (0)"))
    if version > STATE_VERSION:
        raise EchoFedError(
            Code.STATE_NEWER,
            f"the centre's state has version {version}, this release reads up to {STATE_VERSION}",
            "upgrade echofed, or restore the state of this release from a backup",
        )
    for step in MIGRATIONS[version:]:
        step(connection)
    connection.execute(text("UPDATE meta SET version = :version"), {"version": STATE_VERSION})
