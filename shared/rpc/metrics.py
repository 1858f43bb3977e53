"""What a host counts of its calls, for Prometheus: numbers by method, status and role, no names."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.errors import Code, EchoFedError
from shared.rpc.worker import Statistics

LOOPBACK = "127.0.0.1"
NO_ROLE = "none"
"""Role of a caller who was refused before the certificate was read."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)

_WORKER_COUNTS = {
    "requests": "Requests answered.",
    "rows": "Rows computed; by batches, the mean size of a batch.",
    "batches": "Batches computed.",
    "restarts": "Starts of a process after the first.",
}


@dataclass(slots=True)
class Counted:
    """A call under way; what is known of it is filled in as it becomes known.

    Args:
        role: of the caller.
        status: how it ends; a call that is left before its end was cancelled.
    """

    role: str = NO_ROLE
    status: grpc.StatusCode = grpc.StatusCode.CANCELLED


class CallMetrics:
    """The numbers of one host, in a registry of their own."""

    def __init__(self) -> None:
        """Begin at zero. Calls that gRPC itself refuses never reach the gate and are not in it."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._workers = _Workers()
        self.registry.register(self._workers)
        self._calls = self._counter("calls", "Calls that ended.", "method", "role", "status")
        self._refused = self._counter("refused", "Calls refused.", "method", "code")
        self._received = self._counter("received_bytes", "Bytes of requests.", "method")
        self._sent = self._counter("sent_bytes", "Bytes of answers.", "method")
        self._under_way = Gauge(
            "echofed_calls_under_way", "Calls under way.", ["method"], registry=self.registry
        )
        self._seconds = Histogram(
            "echofed_call_seconds",
            "How long calls took.",
            ["method"],
            buckets=_SECONDS,
            registry=self.registry,
        )

    @contextmanager
    def counting(self, method: str) -> Iterator[Counted]:
        """Count a call from here to the end of the block."""
        counted, begun = Counted(), time.perf_counter()
        with self._under_way.labels(method).track_inprogress():
            try:
                yield counted
                counted.status = grpc.StatusCode.OK
            finally:
                self._seconds.labels(method).observe(time.perf_counter() - begun)
                self._calls.labels(method, counted.role, counted.status.name).inc()

    def refused(self, method: str, code: Code) -> None:
        """Count a refusal."""
        self._refused.labels(method, code.name).inc()

    def received(self, method: str, num_bytes: int) -> None:
        """Count a message that came."""
        self._received.labels(method).inc(num_bytes)

    def sent(self, method: str, num_bytes: int) -> None:
        """Count a message that goes."""
        self._sent.labels(method).inc(num_bytes)

    def watch_workers(self, read: Callable[[], Mapping[str, Statistics]]) -> None:
        """Show the figures of workers too.

        Args:
            read: asked at every scrape for those that there are by name, such as an alias.
        """
        self._workers.readers.append(read)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"echofed_{name}", text, labels, registry=self.registry)


@contextmanager
def running_metrics(metrics: CallMetrics, *, port: int) -> Iterator[int]:
    """Show the numbers over HTTP to this machine only.

    Args:
        metrics: of the host.
        port: on loopback; 0 takes a free one.

    Yields:
        The port.

    Raises:
        EchoFedError: CENTRE_UNREACHABLE where the port is taken.
    """
    try:
        server, thread = start_http_server(port, LOOPBACK, metrics.registry)
    except OSError as error:
        raise EchoFedError(
            Code.CENTRE_UNREACHABLE,
            f"no metrics can be served on {LOOPBACK}:{port}",
            "free the port or choose another",
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def metrics_address(port: int) -> str:
    """Where Prometheus finds the numbers."""
    return f"http://{LOOPBACK}:{port}/metrics"


class _Workers(Collector):
    """Figures of workers, read when they are asked for."""

    def __init__(self) -> None:
        self.readers: list[Callable[[], Mapping[str, Statistics]]] = []

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "echofed_worker_waiting", "Requests that no batch has taken.", labels=["worker"]
        )
        counts = {
            what: CounterMetricFamily(f"echofed_worker_{what}", text, labels=["worker"])
            for what, text in _WORKER_COUNTS.items()
        }
        for name, done in (one for read in self.readers for one in read().items()):
            waiting.add_metric([name], done.num_waiting)
            for what, family in counts.items():
                family.add_metric([name], getattr(done, f"num_{what}"))
        yield from (waiting, *counts.values())
