"""The DICOMweb services of an archive: QIDO-RS finds, WADO-RS retrieves one instance at a time.

Reference: DICOM PS3.18, chapters 8 (media types), 10.4 (retrieve) and 10.6 (search).
"""

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import quote

import httpx

from shared.errors import Code, EchoFedError
from site_client.datasets.raw import MAX_BYTES

PAGE = 100
_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_LONGEST_WAIT_S = 60.0  # that an archive may ask for
_LOST = 0  # stands for the status of an answer that did not come
_AGAIN = frozenset({_LOST, 429, 500, 502, 503, 504})
_AWAY = _AGAIN - {500}  # 500 is one object's fault, and the others may be had
_STUDIES = "studies"
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_MODALITY, _MODALITIES = "00080060", "00080061"
_JSON = "application/dicom+json"
_FILE = 'multipart/related; type="application/dicom"; transfer-syntax=*'  # as it is stored


@dataclass(frozen=True, slots=True)
class InstanceAddress:
    """Where one instance lies; the UIDs identify a patient's examination."""

    study: str
    series: str
    instance: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    fault: str = ""
    media_type: str = ""
    body: bytes = b""
    wait_s: float = 0.0


class DicomWeb:
    """One archive, asked politely: so many requests a second, and again later where it is busy."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        per_second: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take a client whose base is the root of the services; nothing is asked yet."""
        self._client = client
        self._host = client.base_url.host
        self._pause_s = 1.0 / per_second
        self._sleep = sleep
        self._next_s = time.monotonic()

    def studies(self, *, modality: str, dates: str = "", page: int = PAGE) -> Iterator[str]:
        """UIDs of all studies of the dates that hold the modality.

        The modality is compared here: archives that match ModalitiesInStudy themselves may cut
        the pages before they filter, and then lose studies.

        Raises:
            EchoFedError: ARCHIVE_UNREACHABLE or ARCHIVE_REFUSED.
        """
        asked = {"includefield": "ModalitiesInStudy", **({"StudyDate": dates} if dates else {})}
        for study in self._all(_STUDIES, asked, _STUDY, page):
            held = _values(study, _MODALITIES)
            if not held or modality in held:
                yield _values(study, _STUDY)[0]

    def instances(
        self, study: str, *, modality: str, page: int = PAGE
    ) -> Iterator[InstanceAddress]:
        """All instances of the study's series of the modality.

        Raises:
            EchoFedError: DATA_UNREADABLE where this study cannot be had; ARCHIVE_UNREACHABLE or
                ARCHIVE_REFUSED where none can.
        """
        path = f"{_STUDIES}/{quote(study, safe='')}/series"
        for found in self._all(path, {}, _SERIES, page):
            if _values(found, _MODALITY) not in ([], [modality]):
                continue
            series = _values(found, _SERIES)[0]
            below = f"{path}/{quote(series, safe='')}/instances"
            for item in self._all(below, {}, _INSTANCE, page):
                yield InstanceAddress(study, series, _values(item, _INSTANCE)[0])

    def file(self, address: InstanceAddress) -> bytes:
        """The DICOM file of an instance, in the transfer syntax in which the archive keeps it.

        Raises:
            EchoFedError: DATA_UNREADABLE where this one cannot be had; ARCHIVE_UNREACHABLE or
                ARCHIVE_REFUSED where none can.
        """
        study, series, instance = (
            quote(uid, safe="") for uid in (address.study, address.series, address.instance)
        )
        path = f"{_STUDIES}/{study}/series/{series}/instances/{instance}"
        answer = self._get(path, {}, _FILE)
        if answer.status != httpx.codes.OK:
            raise _not_handed_out(answer.fault)
        data = _only_part(answer)
        if data[128:132] != b"DICM":
            raise _not_handed_out("it is no DICOM file")
        return data

    def _all(
        self, path: str, asked: Mapping[str, str], tag: str, page: int
    ) -> Iterator[dict[str, Any]]:
        """Matches of all pages, until a page brings nothing new.

        A short page does not end them, because archives cap pages as they like; a repeated one
        does, because some know no offset.
        """
        seen: set[str] = set()
        offset = 0
        while True:
            found = self._query(path, {**asked, "limit": str(page), "offset": str(offset)})
            fresh = {_values(item, tag)[0]: item for item in found if _values(item, tag)}
            fresh = {uid: item for uid, item in fresh.items() if uid not in seen}
            if not fresh:
                return
            yield from fresh.values()
            seen.update(fresh)
            offset += len(found)

    def _query(self, path: str, asked: Mapping[str, str]) -> list[dict[str, Any]]:
        answer = self._get(path, asked, _JSON)
        if answer.status == httpx.codes.NO_CONTENT:
            return []
        if answer.status != httpx.codes.OK:
            raise self._unanswered(path, answer.fault)
        try:
            found = json.loads(answer.body)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self._unanswered(path, "something else than DICOM JSON")
        return found

    def _get(self, path: str, asked: Mapping[str, str], accept: str) -> _Answer:
        """Ask until there is an answer; a silent archive is an error."""
        answer = self._ask(path, asked, accept)
        for wait_s in _WAITS_S:
            if answer.status not in _AGAIN:
                break
            self._sleep(max(wait_s, answer.wait_s))
            answer = self._ask(path, asked, accept)
        if answer.status in _AWAY:
            raise EchoFedError(
                Code.ARCHIVE_UNREACHABLE,
                f"the archive at {self._host} does not answer ({answer.fault})",
                "check address and network; the same command goes on where it stopped",
            )
        return answer

    def _ask(self, path: str, asked: Mapping[str, str], accept: str) -> _Answer:
        self._await_turn()
        try:
            with self._client.stream(
                "GET", path, params=asked, headers={"Accept": accept}
            ) as response:
                return self._read(response)
        except httpx.RequestError as error:
            if _is_untrusted(error):
                raise self._untrusted() from error
            return _Answer(_LOST, type(error).__name__)

    def _await_turn(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s:
            self._sleep(self._next_s - now_s)
        self._next_s = max(now_s, self._next_s) + self._pause_s

    def _read(self, response: httpx.Response) -> _Answer:
        status = response.status_code
        if status == httpx.codes.UNAUTHORIZED:
            raise EchoFedError(
                Code.ARCHIVE_REFUSED,
                f"the archive at {self._host} refuses the credentials",
                "check user and password, or the token",
            )
        body = bytearray()
        if status == httpx.codes.OK:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise _not_handed_out("it is larger than can be read")
        return _Answer(
            status,
            f"HTTP {status}",
            response.headers.get("Content-Type", ""),
            bytes(body),
            _retry_after_s(response),
        )

    def _unanswered(self, path: str, what: str) -> EchoFedError:
        """A search for studies concerns all of them; one below a study, that study alone."""
        if path != _STUDIES:
            return _not_handed_out(what)
        return EchoFedError(
            Code.ARCHIVE_REFUSED,
            f"the archive at {self._host} answers a search with {what}",
            "check that the address is the root of its DICOMweb services and what the credentials "
            "may read; some archives also ask for --study-date",
        )

    def _untrusted(self) -> EchoFedError:
        return EchoFedError(
            Code.ARCHIVE_REFUSED,
            f"the certificate of the archive at {self._host} is not trusted",
            "give the hospital's authority with --ca FILE, and the name that the certificate has",
        )


def _values(item: Mapping[str, Any], tag: str) -> list[str]:
    """Values of an element in DICOM JSON (PS3.18 annex F), empty where it is not there."""
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [str(value) for value in values if value] if isinstance(values, list) else []


def _only_part(answer: _Answer) -> bytes:
    """The file in a multipart answer of one part; a bare file is taken as it is."""
    header = Message()
    header["Content-Type"] = answer.media_type
    if header.get_content_maintype() != "multipart":
        return answer.body
    mark = b"--" + str(header.get_param("boundary", "")).encode()
    start = answer.body.find(b"\r\n\r\n", answer.body.find(mark)) + 4
    end = answer.body.find(b"\r\n" + mark, start)
    if len(mark) < 3 or start < 4 or end < 0:
        raise _not_handed_out("its answer was cut off")
    return answer.body[start:end]


def _not_handed_out(reason: str) -> EchoFedError:
    return EchoFedError(
        Code.DATA_UNREADABLE,
        f"the archive did not hand out a study or an instance ({reason})",
        "run the same command again; if it stays, ask the archive's operator",
    )


def _retry_after_s(response: httpx.Response) -> float:
    """Seconds that a busy archive asks for, within reason; dates are not read."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT_S) if text.isascii() and text.isdigit() else 0.0


def _is_untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
