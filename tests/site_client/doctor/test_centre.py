"""The centre is asked by the way the node takes, proxies included, and for its time."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from shared.errors import Code, EchoFedError
from site_client.doctor.centre import check
from site_client.doctor.finding import Premises
from site_client.federate import free_port
from site_client.launch import way_to

Look = Callable[..., list[tuple[str, str]]]


@dataclass
class Proxy:
    """A proxy that tunnels and notes what it was asked."""

    port: int
    asked: list[str] = field(default_factory=list)


@contextmanager
def tunnelling() -> Iterator[Proxy]:
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(listener.getsockname()[1])

    def pump(source: socket.socket, sink: socket.socket) -> None:
        while data := _receive(source):
            sink.sendall(data)

    def serve() -> None:
        client, _ = listener.accept()
        head = client.recv(4096).decode()
        proxy.asked.append(head)
        host, _, port = head.split()[1].partition(":")
        with client, socket.create_connection((host, int(port))) as upstream:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
            back.start()
            pump(client, upstream)
            back.join(2)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield proxy
        thread.join(5)


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("ahead_s", "expected"),
    [
        (0.0, []),
        (-4.0, [("warning", "")]),
        (60.0, [("warning", "")]),
        (-9.0, [("fault", "NODE_REFUSED")]),
        (600.0, [("fault", "NODE_REFUSED")]),
    ],
)
def test_the_clock_is_set_against_the_centre_s(
    premises: Premises, enrol: Any, centre: Any, faults: Look, ahead_s: float,
    expected: list[tuple[str, str]],
) -> None:  # fmt: skip
    enrol(premises)
    with centre(ahead_s=ahead_s) as front:
        assert faults(check, replace(premises, address=front.address)) == expected


def test_a_silent_centre_is_unreachable(premises: Premises, enrol: Any) -> None:
    enrol(premises)
    with pytest.raises(EchoFedError) as caught:
        list(check(replace(premises, address=f"127.0.0.1:{free_port()}")))
    assert caught.value.code is Code.CENTRE_UNREACHABLE


def test_without_a_certificate_the_centre_is_not_asked(premises: Premises, faults: Look) -> None:
    assert faults(check, replace(premises, address="nowhere.invalid:1")) == [("warning", "")]


def test_the_centre_is_reached_through_the_proxy(
    premises: Premises, enrol: Any, centre: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(premises)
    with centre() as front, tunnelling() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ward:s%40cret@127.0.0.1:{proxy.port}")
        first, _ = check(replace(premises, address=front.address))
    assert first.state == "ok"
    assert f"through the proxy 127.0.0.1:{proxy.port}" in first.what
    (head,) = proxy.asked
    assert head.startswith(f"CONNECT {front.address} ")
    assert "Proxy-Authorization: Basic d2FyZDpzQGNyZXQ=" in head


def test_a_silent_proxy_is_named_without_its_password(
    premises: Premises, enrol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(premises)
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"ward:secret@127.0.0.1:{port}")
    with pytest.raises(EchoFedError, match=f"through the proxy 127.0.0.1:{port}") as caught:
        list(check(replace(premises, address="centre.invalid:9092")))
    assert caught.value.code is Code.CENTRE_UNREACHABLE
    assert "secret" not in str(caught.value)


def test_no_proxy_names_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert way_to("centre.org:9092") == "centre.org:9092 through the proxy proxy:3128"
    monkeypatch.setenv("no_proxy", "centre.org")
    assert way_to("centre.org:9092") == "centre.org:9092"


def test_a_proxy_without_a_port_and_one_that_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy")
    assert way_to("centre.org:9092").endswith(" proxy:80")
    monkeypatch.setenv("https_proxy", "http://proxy:many")
    with pytest.raises(EchoFedError) as caught:
        way_to("centre.org:9092")
    assert caught.value.code is Code.CONFIG_INVALID
