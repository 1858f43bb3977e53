"""Archives that are busy, broken, slow of wit or cut off; each answers from a small script."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest

from shared.errors import Code, EchoFedError
from site_client.archive.dicomweb import DicomWeb, InstanceAddress
from site_client.archive.fetch import expect_dates, fetch
from site_client.archive.inbox import Inbox

FILE = b"\0" * 128 + b"DICM" + b"\r\n--not the boundary" * 3
WHERE = InstanceAddress("1.2", "1.2.3", "1.2.3.4")
Script = Callable[[httpx.Request], httpx.Response]


def archive_that(script: Script, waits: list[float] | None = None) -> DicomWeb:
    client = httpx.Client(
        base_url="https://pacs.example/dicom-web", transport=httpx.MockTransport(script)
    )
    sleep = (waits if waits is not None else []).append
    return DicomWeb(client, per_second=1e6, sleep=sleep)


def in_turn(answers: Sequence[httpx.Response | Exception]) -> Script:
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    return answer


def part(data: bytes, *, end: bytes = b"\r\n--b=1--\r\n") -> httpx.Response:
    head = b"--b=1\r\nContent-Type: application/dicom\r\n\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary="b=1"'
    return httpx.Response(200, content=head + data + end, headers={"Content-Type": kind})


def found(tag: str, *uids: str) -> list[dict[str, object]]:
    return [{tag: {"vr": "UI", "Value": [uid]}} for uid in uids]


def code_of(call: Callable[[], object]) -> Code:
    with pytest.raises(EchoFedError) as caught:
        call()
    assert "1.2" not in str(caught.value)
    return caught.value.code


def test_the_file_is_taken_out_of_its_part_unchanged() -> None:
    assert archive_that(lambda request: part(FILE)).file(WHERE) == FILE
    bare = httpx.Response(200, content=FILE, headers={"Content-Type": "application/dicom"})
    assert archive_that(lambda request: bare).file(WHERE) == FILE


def test_a_busy_archive_is_asked_again_after_growing_waits() -> None:
    waits: list[float] = []
    busy = [
        httpx.Response(503),
        httpx.ReadError("connection lost"),
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(500),
    ]
    archive = archive_that(in_turn([*busy, part(FILE)]), waits)
    assert archive.file(WHERE) == FILE
    assert [wait for wait in waits if wait > 0.01] == [0.5, 1.0, 7.0, 4.0]


def test_an_archive_that_stays_away_is_an_error_with_a_code() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    archive = archive_that(refuse)
    assert code_of(lambda: list(archive.studies(modality="US"))) is Code.ARCHIVE_UNREACHABLE
    archive = archive_that(lambda request: httpx.Response(503))
    assert code_of(lambda: archive.file(WHERE)) is Code.ARCHIVE_UNREACHABLE


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(500),
        httpx.Response(200, text="<html>", headers={"Content-Type": "text/html"}),
        part(FILE, end=b""),
        part(b"no DICOM"),
    ],
)
def test_one_bad_instance_is_a_fault_of_that_instance(answer: httpx.Response) -> None:
    assert code_of(lambda: archive_that(lambda request: answer).file(WHERE)) is Code.DATA_UNREADABLE


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(302, headers={"Location": "https://elsewhere.example"}),
        httpx.Response(400),
        httpx.Response(403),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"not": "a list"}),
        httpx.Response(200, json=[1]),
    ],
)
def test_a_search_that_is_not_answered_in_dicom_json_is_refused(answer: httpx.Response) -> None:
    archive = archive_that(lambda request: answer)
    assert code_of(lambda: list(archive.studies(modality="US"))) is Code.ARCHIVE_REFUSED


def test_pages_end_where_nothing_is_new() -> None:
    uids = [f"1.2.{number}" for number in range(7)]

    def capped(request: httpx.Request) -> httpx.Response:
        first = int(request.url.params["offset"])
        page = uids[first : first + 3]
        return httpx.Response(200, json=found("0020000D", *page)) if page else httpx.Response(204)

    assert list(archive_that(capped).studies(modality="US")) == uids
    every = httpx.Response(200, json=found("0020000D", *uids))
    assert list(archive_that(lambda request: every).studies(modality="US")) == uids


def test_studies_and_series_of_other_modalities_are_left_out() -> None:
    ct = {"0020000D": {"Value": ["1.2.9"]}, "00080061": {"Value": ["CT", "SR"]}}
    both = {"0020000D": {"Value": ["1.2.8"]}, "00080061": {"Value": ["SR", "US"]}}
    studies = archive_that(lambda request: httpx.Response(200, json=[ct, both]))
    assert list(studies.studies(modality="US")) == ["1.2.8"]

    def series(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/series"):
            pair = found("0020000E", "1.5", "1.6")
            pair[0]["00080060"], pair[1]["00080060"] = {"Value": ["SR"]}, {"Value": ["US"]}
            return httpx.Response(200, json=pair)
        return httpx.Response(200, json=found("00080018", "1.7"))

    held = list(archive_that(series).instances("1.2.8", modality="US"))
    assert held == [InstanceAddress("1.2.8", "1.6", "1.7")]


def test_a_uid_cannot_lead_to_another_path() -> None:
    paths: list[bytes] = []

    def note(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path)
        return part(FILE)

    archive_that(note).file(InstanceAddress("../../admin?x=", "1", "2"))
    assert paths == [b"/dicom-web/studies/..%2F..%2Fadmin%3Fx%3D/series/1/instances/2"]


def test_what_one_run_could_not_have_the_next_one_brings(tmp_path: Path) -> None:
    broken = {"1.9.1"}

    def script(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/series"):
            return httpx.Response(200, json=found("0020000E", "1.5"))
        if path.endswith("/instances"):
            return httpx.Response(200, json=found("00080018", "1.9.1", "1.9.2"))
        return httpx.Response(404) if path.rpartition("/")[2] in broken else part(FILE)

    inbox, archive = Inbox(tmp_path, b"key"), archive_that(script)
    notes: list[str] = []
    first = fetch(
        archive, inbox, ["1.1"], modality="US", advance=lambda n, note: notes.append(note)
    )
    assert (first.instances, first.fetched, first.failed) == (2, 1, 1)
    assert notes == ["1 fetched, 1 failed"]
    broken.clear()
    again = fetch(archive, inbox, ["1.1"], modality="US", advance=lambda n, note: None)
    assert (again.fetched, again.already, again.failed) == (1, 1, 0)


def test_no_more_requests_a_second_than_allowed() -> None:
    waits: list[float] = []
    client = httpx.Client(
        base_url="https://pacs.example",
        transport=httpx.MockTransport(lambda request: part(FILE)),
    )
    archive = DicomWeb(client, per_second=0.01, sleep=waits.append)
    for _ in range(3):
        archive.file(WHERE)
    assert len(waits) == 2
    assert waits[0] == pytest.approx(100, abs=5)
    assert waits[1] == pytest.approx(200, abs=5)  # nobody slept in this test


def test_a_study_that_is_kept_back_does_not_end_the_run(tmp_path: Path) -> None:
    def script(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if "/1.1/" in path:
            return httpx.Response(403)
        if path.endswith("/series"):
            return httpx.Response(200, json=found("0020000E", "1.5"))
        if path.endswith("/instances"):
            return httpx.Response(200, json=found("00080018", "1.9.1"))
        return part(FILE)

    report = fetch(
        archive_that(script),
        Inbox(tmp_path, b"key"),
        ["1.1", "1.2"],
        modality="US",
        advance=lambda n, note: None,
    )
    assert (report.studies, report.instances, report.fetched, report.failed) == (2, 1, 1, 1)


def test_wrong_credentials_end_the_run_wherever_they_are_noticed() -> None:
    archive = archive_that(lambda request: httpx.Response(401))
    assert code_of(lambda: archive.file(WHERE)) is Code.ARCHIVE_REFUSED
    assert code_of(lambda: list(archive.instances("1.2", modality="US"))) is Code.ARCHIVE_REFUSED


@pytest.mark.parametrize("text", ["", "20240101-20241231", "20240101-", "-20241231", "20240101"])
def test_ranges_of_dates_are_taken(text: str) -> None:
    assert expect_dates(text) == text


@pytest.mark.parametrize("text", ["2024", "2024-01-01", "20240101-2024", "-", "20240101&limit=1"])
def test_other_words_are_no_dates(text: str) -> None:
    assert code_of(lambda: expect_dates(text)) is Code.CONFIG_INVALID


def test_answers_are_json_whatever_they_call_it() -> None:
    body = json.dumps(found("0020000D", "1.2")).encode()
    answer = httpx.Response(200, content=body, headers={"Content-Type": "text/plain"})
    assert list(archive_that(lambda request: answer).studies(modality="US")) == ["1.2"]
