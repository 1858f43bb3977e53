"""Measure streams of 64 MiB through our stack and through raw gRPC into tests/bench/streaming.csv.

    python tests/bench/measure_streaming.py [--repeats 15] [--out FILE]

One child process holds both servers; both ends of both compute SHA-256 over the same pieces of
1 MiB under the same mutual TLS and put them together. Ours does it with gate, messages and codec,
raw with bare bytes. They take turns, and the ratio is the median over pairs of neighbours, raw's
seconds by ours: 1 is as fast. Takes about half a minute on an idle machine.
"""

import argparse
import csv
import hashlib
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import descriptor_pb2, descriptor_pool

from shared.pb import tensor_pb2 as pb
from shared.rpc.authority import (
    create_authority,
    ensure_server_certificate,
    sign_caller_certificate,
    write_private_key,
)
from shared.rpc.channel import open_channel
from shared.rpc.codec import CHUNK_BYTES, MIB, chunks_of_tensor, tensor_from_chunks
from shared.rpc.gate import Limits
from shared.rpc.peer import Credentials
from shared.rpc.server import Service, running_server

NUM_BYTES = 64 * MIB
NAME = "bench.v1.StreamService"
KINDS = {"client": "stream_unary", "server": "unary_stream", "both": "stream_stream"}
COLUMNS = ("stream", "ours_mib_s", "raw_mib_s", "ratio", "lowest", "highest", "repeats")
WHOLE = np.random.default_rng(0).integers(0, 256, NUM_BYTES, np.uint8)
Call = Callable[..., Any]


def main() -> None:
    """Measure all kinds in turn and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("streaming.csv"))
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, caller = certificates(folder)
        ours_port, raw_port = stack.enter_context(servers(server))
        works = {
            "ours": stack.enter_context(our_calls(f"127.0.0.1:{ours_port}", caller)),
            "raw": stack.enter_context(raw_calls(f"127.0.0.1:{raw_port}", caller)),
        }
        rows = [row_of(kind, seconds_of(kind, works, asked.repeats)) for kind in KINDS]
    with asked.out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*COLUMNS, "machine", "commit"])
        for row in rows:
            table.writerow([*row, _machine(), _commit()])
            sys.stdout.write(" ".join(map(str, row)) + "\n")


def seconds_of(
    kind: str, works: dict[str, dict[str, Call]], repeats: int
) -> list[dict[str, float]]:
    """Seconds of both, in turns that change who goes first; the first turn warms up."""
    turns = []
    for turn in range(repeats + 1):
        seconds = {}
        for name in sorted(works, reverse=bool(turn % 2)):
            begun = time.perf_counter()
            works[name][kind]()
            seconds[name] = time.perf_counter() - begun
        turns.append(seconds)
    return turns[1:]


def row_of(kind: str, turns: list[dict[str, float]]) -> tuple[Any, ...]:
    """A line of the table; what goes both ways counts twice."""
    mib = NUM_BYTES / MIB * (2 if kind == "both" else 1)
    speed = {name: mib / statistics.median(one[name] for one in turns) for name in ("ours", "raw")}
    ratios = [one["raw"] / one["ours"] for one in turns]
    return (
        kind,
        *(round(speed[name], 1) for name in ("ours", "raw")),
        *(round(of(ratios), 3) for of in (statistics.median, min, max)),
        len(turns),
    )


@contextmanager
def our_calls(address: str, credentials: Credentials) -> Iterator[dict[str, Call]]:
    """The three kinds through channel and codec."""
    with open_channel(address, credentials) as channel:
        made = {
            kind: getattr(channel, form)(
                f"/{NAME}/{kind}",
                request_serializer=pb.TensorChunk.SerializeToString,
                response_deserializer=pb.TensorChunk.FromString,
            )
            for kind, form in KINDS.items()
        }
        yield {
            "client": lambda: made["client"](chunks_of_tensor(WHOLE)),
            "server": lambda: ours_taken(made["server"](pb.TensorChunk())),
            "both": lambda: ours_taken(made["both"](chunks_of_tensor(WHOLE))),
        }


def ours_taken(chunks: Iterable[pb.TensorChunk]) -> np.ndarray:
    return tensor_from_chunks(chunks, limit_bytes=NUM_BYTES)


@contextmanager
def raw_calls(address: str, credentials: Credentials) -> Iterator[dict[str, Call]]:
    """The three kinds with bare bytes."""
    secured = grpc.ssl_channel_credentials(
        *(path.read_bytes() for path in (credentials.ca, credentials.key, credentials.certificate))
    )
    options = [("grpc.max_receive_message_length", 4 * MIB), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(address, secured, options) as channel:
        made = {kind: getattr(channel, form)(f"/raw/{kind}") for kind, form in KINDS.items()}
        data = WHOLE.tobytes()
        yield {
            "client": lambda: made["client"](raw_pieces(data), timeout=60.0),
            "server": lambda: raw_taken(made["server"](b"", timeout=60.0)),
            "both": lambda: raw_taken(made["both"](raw_pieces(data), timeout=60.0)),
        }


def raw_pieces(data: bytes | bytearray) -> Iterator[bytes]:
    """Pieces, and then their checksum."""
    digest = hashlib.sha256()
    for at in range(0, len(data), CHUNK_BYTES):
        piece = bytes(memoryview(data)[at : at + CHUNK_BYTES])
        digest.update(piece)
        yield piece
    yield digest.digest()


def raw_taken(pieces: Iterable[bytes]) -> bytearray:
    """The whole of its pieces, held against the checksum that comes last."""
    digest, whole, filled = hashlib.sha256(), bytearray(NUM_BYTES), 0
    for piece in pieces:
        if filled == NUM_BYTES:
            assert piece == digest.digest()
            return whole
        digest.update(piece)
        whole[filled : filled + len(piece)] = piece
        filled += len(piece)
    raise AssertionError("the stream ended too early")


class Streams:
    """Our servicer."""

    def client(self, request: Iterator[pb.TensorChunk], context: Any) -> pb.TensorChunk:
        ours_taken(request)
        return pb.TensorChunk()

    def server(self, request: pb.TensorChunk, context: Any) -> Iterator[pb.TensorChunk]:
        return chunks_of_tensor(WHOLE)

    def both(self, request: Iterator[pb.TensorChunk], context: Any) -> Iterator[pb.TensorChunk]:
        return chunks_of_tensor(ours_taken(request))


class RawStreams:
    """The same with bare bytes."""

    def __init__(self) -> None:
        self.data = WHOLE.tobytes()

    def client(self, request: Iterator[bytes], context: Any) -> bytes:
        raw_taken(request)
        return b""

    def server(self, request: bytes, context: Any) -> Iterator[bytes]:
        return raw_pieces(self.data)

    def both(self, request: Iterator[bytes], context: Any) -> Iterator[bytes]:
        return raw_pieces(raw_taken(request))


def handlers(servicer: object, name: str, **codec: Any) -> Any:
    """What the compiler's stub would register."""
    made = {
        kind: getattr(grpc, f"{form}_rpc_method_handler")(getattr(servicer, kind), **codec)
        for kind, form in KINDS.items()
    }
    return grpc.method_handlers_generic_handler(name, made)


def our_service() -> Service:
    """The service that a proto of three lines would give."""
    file = descriptor_pb2.FileDescriptorProto(
        name="bench.proto", package="bench.v1", dependency=["shared/pb/tensor.proto"]
    )
    service = file.service.add(name="StreamService")
    for kind, form in KINDS.items():
        service.method.add(
            name=kind,
            input_type=".echofed.v1.TensorChunk",
            output_type=".echofed.v1.TensorChunk",
            client_streaming=form.startswith("stream"),
            server_streaming=form.endswith("stream"),
        )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    codec = {
        "request_deserializer": pb.TensorChunk.FromString,
        "response_serializer": pb.TensorChunk.SerializeToString,
    }
    return Service(
        pool.FindServiceByName(NAME),
        Streams(),
        lambda servicer, server: server.add_generic_rpc_handlers(
            [handlers(servicer, NAME, **codec)]
        ),
        roles=dict.fromkeys(KINDS, frozenset({"site"})),
    )


@contextmanager
def servers(credentials: Credentials) -> Iterator[tuple[int, int]]:
    """A child process with both servers; its ports."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(credentials, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join(20)


def hold(credentials: Credentials, connection: Connection) -> None:
    """Hold both servers until told to stop."""
    from concurrent.futures import ThreadPoolExecutor

    raw = grpc.server(
        ThreadPoolExecutor(4),
        options=[("grpc.max_receive_message_length", 4 * MIB), ("grpc.so_reuseport", 0)],
    )
    raw.add_generic_rpc_handlers([handlers(RawStreams(), "raw")])
    pair = (credentials.key.read_bytes(), credentials.certificate.read_bytes())
    secured = grpc.ssl_server_credentials(
        [pair], root_certificates=credentials.ca.read_bytes(), require_client_auth=True
    )
    raw_port = raw.add_secure_port("127.0.0.1:0", secured)
    raw.start()
    with running_server(
        [our_service()],
        credentials,
        address="127.0.0.1:0",
        limits=Limits(),
        revoked_keys=tuple,
    ) as port:
        connection.send((port, raw_port))
        connection.recv()
    raw.stop(1.0).wait()


def certificates(folder: Path) -> tuple[Credentials, Credentials]:
    """Of a centre's server, and of a site."""
    now = datetime.now(UTC)
    authority = create_authority(folder / "ca", "bench", now=now)
    ensure_server_certificate(authority, [], now=now)
    key = ec.generate_private_key(ec.SECP384R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = sign_caller_certificate(
        authority,
        request.sign(key, hashes.SHA384()),
        "north",
        role="site",
        period=(now, timedelta(days=1)),
    )
    write_private_key(folder / "site.key", key)
    (folder / "site.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return (
        Credentials(authority.ca_pem, authority.server_pem, authority.server_key),
        Credentials(authority.ca_pem, folder / "site.pem", folder / "site.key"),
    )


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()} {os.cpu_count()} cores {memory_gib:.0f} GiB"


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
