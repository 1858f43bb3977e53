"""Measure eight clients of a segmenter's service against the bare network into serving.csv.

    python tests/bench/measure_serving.py [--turns 5] [--seconds 8] [--out FILE]

The network (unet, width 32, depth 4, patch 4, random weights, pictures of 256 x 211) computes
either in this process, at whichever batch size is best, or behind the service: mutual TLS, eight
callers in a process of their own, each with a clip of eight frames under way at any time, answered
by contours. Both take turns. ``of_network`` is frames/s by the bare network's, ``of_answers`` by
the same answers found in this process, a clip at a time. Takes under three minutes on two idle
cores.
"""

import argparse
import csv
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from shared.echo.frame import Clip
from shared.echo.segmenter import save_segmenter
from shared.rpc.authority import (
    Authority,
    create_authority,
    ensure_caller_certificate,
    ensure_server_certificate,
)
from shared.rpc.channel import open_channel
from shared.rpc.gate import Limits
from shared.rpc.peer import Credentials
from shared.rpc.server import running_server
from shared.rpc.settings import WorkerSettings
from shared.segmentation.answer import Question, Segmenters, answer_clip
from shared.segmentation.segmenter import Forward, Segmenter, build_forward
from shared.services import SERVICES
from shared.services.host import Host
from shared.services.remote_segmentation import segment_remotely
from shared.services.running import RunningModels
from shared.services.segmenters import PARTS, RunningSegmenters
from shared.testing.segmenters import untrained_segmenter

NUM_CLIENTS, NUM_FRAMES, SIZE = 8, 8, (256, 211)
OPTIONS = {"width": 32, "depth": 4, "patch": 4}
BATCHES = (1, 2, 4, 8, 16)
STRUCTURES = ("background", "lv", "myocardium", "la")
QUESTION = Question("A4C", PARTS[0])
COLUMNS = (
    "clients", "served_frames_s", "network_frames_s", "network_batch", "answers_frames_s",
    "of_network", "of_answers", "p50_ms", "p99_ms", "turns",
)  # fmt: skip
Context = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Turn:
    """Frames/s of one turn, and how long each call took."""

    network: float
    answers: float
    served: float
    latencies_s: tuple[float, ...]


def main() -> None:
    """Take turns and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("serving.csv"))
    asked = parser.parse_args()
    card, weights = untrained_segmenter(
        1,
        options={"width": 32, "depth": 4, "patch": 4},
        image_size=max(SIZE),
        structures=STRUCTURES,
    )
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    forward = build_forward(card, weights)
    batch = max(BATCHES, key=lambda size: network_speed(forward, size, asked.seconds / 8))
    segmenters = Segmenters(Segmenter(card, forward))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        save_segmenter(folder / card.id, card, weights)
        ask = stack.enter_context(clients(folder, folder / card.id, threads))
        ask(asked.seconds)  # the process starts, and all is warm
        turns = []
        for _ in range(asked.turns):
            network = network_speed(forward, batch, asked.seconds)
            answers = answer_speed(segmenters, asked.seconds)
            turns.append(Turn(network, answers, *ask(asked.seconds)))
    row = row_of(turns, batch)
    with asked.out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*COLUMNS, "machine", "commit"])
        table.writerow([*row, _machine(), _commit()])
    sys.stdout.write(" ".join(f"{a} {b}" for a, b in zip(COLUMNS, row, strict=True)) + "\n")


def row_of(turns: list[Turn], batch: int) -> tuple[Any, ...]:
    """The line of the table; ratios are medians over turns."""
    middle = statistics.median
    waited_ms = 1000 * np.concatenate([turn.latencies_s for turn in turns])
    p50_ms, p99_ms = np.percentile(waited_ms, [50, 99])
    return (
        NUM_CLIENTS,
        round(middle(turn.served for turn in turns), 1),
        round(middle(turn.network for turn in turns), 1),
        batch,
        round(middle(turn.answers for turn in turns), 1),
        round(middle(turn.served / turn.network for turn in turns), 3),
        round(middle(turn.served / turn.answers for turn in turns), 3),
        round(float(p50_ms), 1),
        round(float(p99_ms), 1),
        len(turns),
    )


def network_speed(forward: Forward, batch: int, seconds: float) -> float:
    """Frames/s of the network alone."""
    image = np.random.default_rng(0).standard_normal((batch, 1, *SIZE)).astype(np.float32)
    mm = np.zeros((batch, 2), np.float32)
    forward(image, mm)
    num, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        forward(image, mm)
        num += batch
    return num / (time.perf_counter() - begun)


def answer_speed(segmenters: Segmenters, seconds: float) -> float:
    """Frames/s of whole answers in this process."""
    clip, num, begun = clip_of(0), 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        list(answer_clip(segmenters, clip, QUESTION))
        num += NUM_FRAMES
    return num / (time.perf_counter() - begun)


def clip_of(seed: int) -> Clip:
    """Clouds, in which a random network sees pieces as large as in a heart, not single pixels."""
    noise_THW = np.random.default_rng(seed).standard_normal((NUM_FRAMES, *SIZE))
    clouds_THW = gaussian_filter(noise_THW, (0.0, 8.0, 8.0))
    grey_THW = 128.0 + 50.0 * clouds_THW / clouds_THW.std()
    return Clip(grey_THW.clip(0, 255).astype(np.uint8), (0.5, 0.5), 33.0, "", "")


@contextmanager
def clients(folder: Path, segmenter: Path, threads: int) -> Iterator[Any]:
    """A host and its clients, each in a process; what is yielded lets them ask for a while."""
    with ExitStack() as stack:
        host = stack.enter_context(child(serve, folder, segmenter, threads))
        port = host.recv()
        asking = stack.enter_context(child(call, folder, port))

        def ask(seconds: float) -> tuple[float, tuple[float, ...]]:
            asking.send(seconds)
            speed, latencies_s = asking.recv()
            return speed, tuple(latencies_s)

        yield ask


@contextmanager
def child(work: Any, *told: object) -> Iterator[Connection]:
    """Hold a process that works until its wire is closed."""
    ours, theirs = Context.Pipe()
    process = Context.Process(target=work, args=(theirs, *told))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def serve(wire: Connection, folder: Path, segmenter: Path, threads: int) -> None:
    """The host."""
    authority = create_authority(folder / "ca", "bench", now=datetime.now(UTC))
    ensure_server_certificate(authority, [], now=datetime.now(UTC))
    shown = Credentials(authority.ca_pem, authority.server_pem, authority.server_key)
    ensure_caller_certificate(
        authority, caller_of(folder), "bench", role="site", now=datetime.now(UTC)
    )
    settings = WorkerSettings(threads=threads)
    with (
        RunningModels(lambda: {PARTS[0]: segmenter}, settings).running() as running,
        running_server(
            [
                SERVICES["segmentation"](
                    Host(folder / "jobs", segmenters=RunningSegmenters(running))
                )
            ],
            shown,
            address="127.0.0.1:0",
            limits=Limits(num_calls=NUM_CLIENTS, num_per_caller=NUM_CLIENTS),
            revoked_keys=lambda: (),
        ) as port,
    ):
        wire.send(port)
        _await_close(wire)


def call(wire: Connection, folder: Path, port: int) -> None:
    """The clients: threads with a connection each, which ask without a pause when told to."""
    with ExitStack() as stack:
        channels = [
            stack.enter_context(open_channel(f"127.0.0.1:{port}", caller_of(folder)))
            for _ in range(NUM_CLIENTS)
        ]
        clips = [clip_of(place) for place in range(NUM_CLIENTS)]
        while True:
            try:
                seconds = wire.recv()
            except EOFError:
                return
            wire.send(asked_together(channels, clips, seconds))


def asked_together(
    channels: list[Any], clips: list[Clip], seconds: float
) -> tuple[float, list[float]]:
    """Frames/s of all clients, and how long each call took."""
    ends_s: list[list[float]] = [[] for _ in channels]
    latencies_s: list[list[float]] = [[] for _ in channels]
    begun = time.perf_counter()

    def ask(place: int) -> None:
        while (start := time.perf_counter()) - begun < seconds:
            list(segment_remotely(channels[place], clips[place], QUESTION))
            ends_s[place].append(time.perf_counter())
            latencies_s[place].append(ends_s[place][-1] - start)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(channels))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # calls overlap the end by one each: what counts is up to the time at which the first one stops
    end = min(times[-1] for times in ends_s)
    num = sum(moment <= end for times in ends_s for moment in times)
    return num * NUM_FRAMES / (end - begun), list(chain.from_iterable(latencies_s))


def caller_of(folder: Path) -> Credentials:
    """The clients' certificate."""
    return Credentials(
        Authority(folder / "ca").ca_pem, folder / "caller.pem", folder / "caller.key"
    )


def _await_close(wire: Connection) -> None:
    try:
        wire.recv()
    except EOFError:
        return


def _machine() -> str:
    return f"{platform.machine()} {os.cpu_count()} cores"


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
