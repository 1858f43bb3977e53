"""A round while it lasts: whom to ask, what arrived, what was refused and how much travelled.

Nothing about an exchange survives Flower's run, so arrivals and refusals go to the ledger at once.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from aggregator.centre import Centre
from aggregator.rounds.exchange import Failure, Outcome
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.ledger import Ledger
from shared.payload import Payload

OnReply = Callable[[str, Outcome], None]


class Ask(Protocol):
    """Send one request to each site and collect an outcome for every one of them."""

    def __call__(
        self,
        message_type: str,
        per_site: Mapping[str, Payload],
        *,
        on_reply: OnReply | None = None,
    ) -> dict[str, Outcome]:
        """Ask; ``on_reply`` is called as soon as a site's outcome is known."""
        ...


@dataclass(slots=True)
class Tally:
    """One step's account.

    Args:
        ledger: where arrivals and refusals are recorded.
        increment: id of the increment that the step belongs to.
    """

    ledger: Ledger
    increment: str
    arrived: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    bytes_out: int = 0
    bytes_in: int = 0
    site_seconds: dict[str, float] = field(default_factory=dict)
    site_cpu_seconds: dict[str, float] = field(default_factory=dict)
    site_start_cpu_seconds: dict[str, float] = field(default_factory=dict)

    def note_arrival(self, kind: str, site: str, data: bytes, **names: str) -> None:
        """Record what a site sent and the centre accepted."""
        body: dict[str, Any] = {"increment": self.increment, "site": site, **names}
        body |= {"sha256": sha256_hex(data), "bytes": len(data)}
        self.ledger.append(f"{kind}.arrived", body, actor=site)
        self.arrived.append({"kind": kind, **body})

    def note_refusal(self, kind: str, site: str, error: EchoFedError, **names: str) -> None:
        """Record what was not accepted, by whom and why; the text is ours, never the site's."""
        body = {"increment": self.increment, "site": site, **names, "code": int(error.code)}
        self.ledger.append(f"{kind}.refused", {**body, "message": error.message}, actor="centre")
        self.refused.append({"kind": kind, **body, "message": error.message})

    def note_failure(self, kind: str, site: str, failure: Failure) -> None:
        """Record a site without a usable reply; only an unreachable one is absent."""
        if failure.code is Code.SITE_UNREACHABLE:
            self.absent[site] = failure.code.name
            body = {"increment": self.increment, "site": site, "request": kind}
            self.ledger.append("site.absent", body, actor="centre")
            return
        self.note_refusal(kind, site, EchoFedError(failure.code, failure.message))

    def note_kept(self, kind: str, site: str, receipt: Mapping[str, Any]) -> None:
        """Record what a site says it did not send, by the names the centre used and the codes."""
        for part in receipt.get("refused", ()):
            code = _code(part.get("code"))
            names = {name: str(part[name])[:128] for name in ("dataset", "expert") if name in part}
            error = EchoFedError(
                code, f"site {site!r} keeps {' x '.join(names.values()) or 'a dataset'}"
            )
            self.note_refusal(kind, site, error, **names)

    def note_receipt(self, site: str, payload: Payload) -> dict[str, Any]:
        """Add up the seconds that a site says it took and return its receipt.

        Raises:
            EchoFedError: WIRE_INVALID for a reply without a receipt.
        """
        receipt = payload.body.get("receipt")
        if not isinstance(receipt, dict):
            raise EchoFedError(Code.WIRE_INVALID, f"a reply of site {site!r} has no receipt")
        for account, key in (
            (self.site_seconds, "milliseconds"),
            (self.site_cpu_seconds, "cpu_milliseconds"),
            (self.site_start_cpu_seconds, "start_cpu_milliseconds"),
        ):
            account[site] = account.get(site, 0.0) + int(receipt.get(key, 0)) / 1000
        return receipt

    def counting(self, ask: Ask) -> Ask:
        """The same ``ask``, with every request and reply counted in bytes."""

        def counted(
            message_type: str,
            per_site: Mapping[str, Payload],
            *,
            on_reply: OnReply | None = None,
        ) -> dict[str, Outcome]:
            self.bytes_out += sum(num_bytes(payload) for payload in per_site.values())
            outcomes = ask(message_type, per_site, on_reply=on_reply)
            replies = [reply for reply in outcomes.values() if isinstance(reply, Payload)]
            self.bytes_in += sum(num_bytes(reply) for reply in replies)
            return outcomes

        return counted


@dataclass(frozen=True, slots=True)
class Round:
    """What every round needs.

    Args:
        centre: state, bank, ledger and folders.
        ask: sends requests and collects outcomes.
        tally: this step's account.
        clock: aware time of now.
    """

    centre: Centre
    ask: Ask
    tally: Tally
    clock: Callable[[], datetime]

    def collect(
        self,
        request: str,
        per_site: Mapping[str, Payload],
        take: Callable[[str, Payload], None],
    ) -> None:
        """Ask and take in each reply as it arrives; a lost site is data, a full disk is not.

        Args:
            request: message type, also the name under which failures are recorded.
            per_site: site -> request; nobody is asked where it is empty.
            take: stores one reply; its EchoFedError refuses that reply alone.

        Raises:
            EchoFedError: DISK_FULL; what was stored before stays.
        """

        def on_reply(site: str, outcome: Outcome) -> None:
            if isinstance(outcome, Failure):
                self.tally.note_failure(request, site, outcome)
                return
            try:
                take(site, outcome)
            except EchoFedError as error:
                if error.code is Code.DISK_FULL:
                    raise
                self.tally.note_refusal(request, site, error)

        if per_site:
            self.tally.counting(self.ask)(request, per_site, on_reply=on_reply)


def _code(number: object) -> Code:
    known = {int(code): code for code in Code}
    return known.get(number, Code.INTERNAL) if isinstance(number, int) else Code.INTERNAL


def num_bytes(payload: Payload) -> int:
    """Size of a message: its body as JSON and its blobs."""
    return len(json.dumps(dict(payload.body))) + sum(map(len, payload.blobs.values()))
