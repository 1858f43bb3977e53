"""The centre's database: sites, announced datasets, experts, increments, fusions and evaluations.

Any SQLAlchemy URL; SQLite in the centre's folder by default. Rows are plain dataclasses once read.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, delete, event, select, update
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session

from aggregator.schema import (
    Announcement,
    Evaluation,
    Expert,
    Fusion,
    Increment,
    Row,
    Site,
    Step,
    Withdrawal,
    migrate,
)
from shared.echo.expert import ExpertCard
from shared.echo.schema import to_document
from shared.errors import Code, EchoFedError

BUSY_TIMEOUT_MS = 30_000  # the command line reads while a run writes
R = TypeVar("R", bound=Row)


class State:
    """The open database; every call is one transaction."""

    def __init__(self, engine: Engine) -> None:
        """Keep an engine whose schema is current; see ``open_state``."""
        self._engine = engine

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def sites(self) -> tuple[Site, ...]:
        """All admitted sites by code."""
        return self._all(Site, Site.code)

    def enrol(self, code: str, key_fingerprint: str, *, now: datetime) -> None:
        """Note an admitted site, or its new key."""
        with Session(self._engine) as session, session.begin():
            known = session.get(Site, code)
            if known is None:
                session.add(Site(code, key_fingerprint, iso(now)))
            else:
                known.key_fingerprint = key_fingerprint

    def dismiss(self, code: str) -> None:
        """Forget a site that was shut out; what it announced stays."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(Site).where(Site.code == code))

    def note_seen(self, code: str, *, now: datetime) -> None:
        """A site answered."""
        self._update(Site, Site.code == code, last_seen=iso(now), absent_since="")

    def note_absent(self, code: str, *, now: datetime) -> None:
        """A site did not answer; the first such time is kept."""
        is_new = (Site.code == code) & (Site.absent_since == "")
        self._update(Site, is_new, absent_since=iso(now))

    def announce(self, site: str, announced: Sequence[Announcement], *, now: datetime) -> None:
        """Replace what a site announces.

        Unchanged content keeps its ``fused_in``; what the site left out is withdrawn.
        """
        with Session(self._engine) as session, session.begin():
            known = {row.dataset: row for row in _announced_by(session, site)}
            for row in announced:
                old = known.pop(row.dataset, None)
                row.fused_in = row.withdrawn = ""  # set, not defaulted: merge skips what nobody set
                if old is not None and old.hash == row.hash:
                    row.fused_in, row.announced = old.fused_in, old.announced
                session.merge(row)
            for left_out in known.values():
                left_out.withdrawn = left_out.withdrawn or iso(now)

    def announcements(self) -> tuple[Announcement, ...]:
        """Every dataset that is announced and not withdrawn, by site and name."""
        rows = self._all(Announcement, Announcement.site, Announcement.dataset)
        return tuple(row for row in rows if not row.withdrawn)

    def withdrawn(self) -> tuple[Announcement, ...]:
        """Datasets that a reachable site no longer describes."""
        rows = self._all(Announcement, Announcement.site, Announcement.dataset)
        return tuple(row for row in rows if row.withdrawn)

    def mark_fused(self, fusion: str, hashes: Iterable[str]) -> None:
        """Note that datasets of these hashes are part of a fusion; the first one stays."""
        is_first = Announcement.hash.in_(list(hashes)) & (Announcement.fused_in == "")
        self._update(Announcement, is_first, fused_in=fusion)

    def add_expert(self, card: ExpertCard, *, now: datetime) -> None:
        """Note an expert whose checkpoint is stored."""
        document = to_document(card)
        hashes = list(card.dataset_hashes)
        row = Expert(card.id, card.site, hashes, card.weights_sha256, document, iso(now))
        self._merge(row)

    def experts(self) -> tuple[Expert, ...]:
        """All experts in the order of their arrival."""
        return self._all(Expert, Expert.arrived, Expert.id)

    def open_increment(self, *, now: datetime) -> Increment:
        """The increment that was interrupted, or a new one."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            rows = session.scalars(select(Increment).order_by(Increment.id.desc())).all()
            open_rows = [row for row in rows if row.status == "running"]
            if open_rows:
                return open_rows[0]
            row = Increment(f"i{len(rows) + 1:04d}", "running", iso(now))
            session.add(row)
            return row

    def increments(self) -> tuple[Increment, ...]:
        """All increments from the first on."""
        return self._all(Increment, Increment.id)

    def note_progress(self, increment: str, step: str, note: str) -> None:
        """Say what is being done; the command line shows it."""
        self._update(Increment, Increment.id == increment, step=step, note=note)

    def close_increment(
        self, increment: str, *, fusion: str, outcome: dict[str, Any], now: datetime
    ) -> None:
        """The increment reached its end."""
        self._update(
            Increment,
            Increment.id == increment,
            status="finished",
            finished=iso(now),
            fusion=fusion,
            outcome=outcome,
            error="",
        )

    def note_failure(self, increment: str, error: EchoFedError, *, is_final: bool) -> None:
        """Keep why an attempt ended; only a final one closes the increment."""
        status = "failed" if is_final else "running"
        where = Increment.id == increment
        self._update(Increment, where, status=status, error=f"{error.code.name}: {error.message}")

    def add_step(self, step: Step) -> None:
        """Note what a step cost."""
        self._merge(step)

    def next_attempt(self, increment: str) -> int:
        """1 for a new increment, one more for every time it was taken up again."""
        return 1 + max((step.attempt for step in self.steps(increment)), default=0)

    def steps(self, increment: str) -> tuple[Step, ...]:
        """Steps of an increment in the order they were taken."""
        rows = self._all(Step, Step.attempt, Step.started)
        return tuple(row for row in rows if row.increment == increment)

    def add_fusion(self, row: Fusion) -> None:
        """Note a fusion whose checkpoint is stored."""
        self._merge(row)

    def fusions(self) -> tuple[Fusion, ...]:
        """All fusions in the order they were trained."""
        return self._all(Fusion, Fusion.trained, Fusion.id)

    def fusion(self, fusion: str) -> Fusion:
        """One fusion.

        Raises:
            EchoFedError: FUSION_UNKNOWN naming the newest.
        """
        rows = self.fusions()
        for row in rows:
            if row.id == fusion:
                return row
        hint = f"the newest is {rows[-1].id!r}" if rows else "run increment first"
        raise EchoFedError(Code.FUSION_UNKNOWN, f"no fusion is called {fusion!r}", hint)

    def note_registered(self, fusion: str, model_version: str) -> None:
        """The model registry holds the fusion under this version."""
        self._update(Fusion, Fusion.id == fusion, model_version=model_version)

    def add_evaluation(self, row: Evaluation) -> None:
        """Keep a site's figures about a fusion."""
        self._merge(row)

    def evaluations(self, fusion: str) -> tuple[Evaluation, ...]:
        """All sites' figures about one fusion."""
        rows = self._all(Evaluation, Evaluation.site, Evaluation.dataset)
        return tuple(row for row in rows if row.fusion == fusion)

    def ask_withdrawal(self, site: str, dataset: str, *, now: datetime) -> bool:
        """A site takes a dataset back; False where that was known already."""
        with Session(self._engine) as session, session.begin():
            if session.get(Withdrawal, (site, dataset)) is not None:
                return False
            session.add(Withdrawal(site, dataset, "asked", iso(now)))
            return True

    def begin_withdrawal(self, row: Withdrawal) -> None:
        """Note a withdrawal and, in the same transaction, drop all rows that it affects."""
        experts = [one["expert"] for one in row.impact["experts"]]
        fusions = [one["fusion"] for one in row.impact["fusions"]]
        site, dataset = row.site, row.dataset
        with Session(self._engine) as session, session.begin():
            session.merge(row)
            session.execute(delete(Announcement).where(*_is(Announcement, site, dataset)))
            session.execute(delete(Evaluation).where(*_is(Evaluation, site, dataset)))
            session.execute(delete(Evaluation).where(Evaluation.fusion.in_(fusions)))
            session.execute(delete(Expert).where(Expert.id.in_(experts)))
            session.execute(delete(Fusion).where(Fusion.id.in_(fusions)))
            first = update(Announcement).where(Announcement.fused_in.in_(fusions))
            session.execute(first.values(fused_in=""))
            for increment in session.scalars(select(Increment)):
                figures = increment.outcome.get("at_sites", ())
                told = any((one["site"], one["dataset"]) == (site, dataset) for one in figures)
                if told or increment.fusion in fusions:
                    increment.outcome = {}

    def finish_withdrawal(self, site: str, dataset: str, outcome: dict[str, Any]) -> None:
        """All is purged and certified."""
        where = (Withdrawal.site == site) & (Withdrawal.dataset == dataset)
        self._update(Withdrawal, where, status="finished", outcome=outcome)

    def withdrawals(self) -> tuple[Withdrawal, ...]:
        """Every dataset that was taken back, the first one first."""
        return self._all(Withdrawal, Withdrawal.since, Withdrawal.site, Withdrawal.dataset)

    def _all(self, kind: type[R], *order: Any) -> tuple[R, ...]:
        with Session(self._engine, expire_on_commit=False) as session:
            return tuple(session.scalars(select(kind).order_by(*order)))

    def _merge(self, row: Row) -> None:
        with Session(self._engine) as session, session.begin():
            session.merge(row)

    def _update(self, kind: type[Row], where: Any, **values: Any) -> None:
        with Session(self._engine) as session, session.begin():
            session.execute(update(kind).where(where).values(**values))


def open_state(folder: Path, database: str = "") -> State:
    """Open the centre's database, creating or migrating it.

    Args:
        folder: the centre's folder.
        database: SQLAlchemy URL; empty is ``state.sqlite`` in the folder.

    Raises:
        EchoFedError: STATE_NEWER for a schema of a later release, CONFIG_INVALID for a bad URL.
    """
    url = database or f"sqlite:///{folder / 'state.sqlite'}"
    try:
        engine = create_engine(url)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _tune_sqlite)
        with engine.begin() as connection:
            migrate(connection)
    except (ArgumentError, ImportError, OperationalError) as error:
        raise EchoFedError(
            Code.CONFIG_INVALID, "the database cannot be opened", f"check store.database: {error}"
        ) from error
    return State(engine)


def iso(moment: datetime) -> str:
    """A moment as text in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _tune_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _is(kind: type[Announcement] | type[Evaluation], site: str, dataset: str) -> tuple[Any, Any]:
    return kind.site == site, kind.dataset == dataset


def _announced_by(session: Session, site: str) -> Sequence[Announcement]:
    return session.scalars(select(Announcement).where(Announcement.site == site)).all()
