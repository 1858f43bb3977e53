"""A process that computes: arrays go there and back through shared memory, never through pickle.

Eight frames of 256 x 256 float32 there and four times as much back take 8 to 13 ms this way on two
busy cores; over a socket 20 ms, as bytes through multiprocessing's pipe 90 ms, pickled 250 ms. The
memory has no name, so nothing is left behind however the processes end (Linux's memfd).
"""

import atexit
import contextlib
import json
import math
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import Code, EchoFedError

Arrays = tuple[NDArray[Any], ...]
Forward = Callable[..., Arrays]
"""Arrays of equally many rows to arrays of as many; what it is given is overwritten afterwards."""
_Reply = dict[str, Any]

_ALIGNED_BYTES = 64  # of a cache line, and the longest that vector instructions ask for
_FIRST_BYTES = 1024 * 1024
_LONGEST_BUILD_S = 300.0
_LONGEST_END_S = 5.0


class ForwardFailed(Exception):
    """An error in a model that is none of the family; its text is a traceback, for the log only."""


class ProcessLost(Exception):
    """The process ended, or gave no answer, in the middle of its work."""


class ModelProcess:
    """One model in a process of its own, that computes one batch at a time."""

    def __init__(self, build: str, argument: str, *, threads: int) -> None:
        """Start the process and wait until the model stands.

        Args:
            build: ``"module:attribute"`` of a function that makes a ``Forward`` of the argument.
            argument: such as a model's folder.
            threads: that the process may compute with.

        Raises:
            EchoFedError: what the function refuses the argument by.
            ForwardFailed: for any other error in it.
            ProcessLost: where the process ended, or did not come up in time.
        """
        context = multiprocessing.get_context("spawn")  # gRPC and fork do not go together
        self._inbox, self._outbox = _Region.unnamed(), _Region.unnamed()
        self._wire, theirs = context.Pipe()
        self._process = context.Process(
            target=_live,
            args=(build, argument, theirs, (self._inbox, self._outbox), threads),
            daemon=True,
        )
        self._process.start()
        self.pid = self._process.pid
        theirs.close()  # the process has the only one, so its end is seen at once
        atexit.register(self._process.kill)
        try:
            self._reply(_LONGEST_BUILD_S)
        except (EchoFedError, ForwardFailed, ProcessLost):
            self.end()
            raise

    @property
    def is_alive(self) -> bool:
        return not self._wire.closed and self._process.is_alive()

    def compute(self, columns: Iterable[Sequence[NDArray[Any]]], *, longest_s: float) -> Arrays:
        """Run the model once.

        Args:
            columns: each argument of the forward, as the pieces that together are its rows.
            longest_s: how long to wait for the end.

        Returns:
            The forward's arrays, which the next call overwrites.

        Raises:
            EchoFedError: as the forward raised it.
            ForwardFailed: for any other error in it.
            ProcessLost: where the process ended before it answered, or took longer.
        """
        layout = self._inbox.write(columns)
        try:
            self._wire.send_bytes(json.dumps(layout).encode())
        except OSError as error:
            raise ProcessLost("the process has ended") from error
        return self._outbox.read(self._reply(longest_s))

    def end(self) -> None:
        """End the process, by force where it does not go by itself; what has ended stays so."""
        if self._wire.closed:
            return
        self._wire.close()
        self._process.join(_LONGEST_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        atexit.unregister(self._process.kill)
        with contextlib.suppress(ValueError):  # a thread that starts another saw its end first
            self._process.close()
        self._inbox.close()
        self._outbox.close()

    def _reply(self, longest_s: float) -> list[_Reply]:
        try:
            if not self._wire.poll(longest_s):
                raise ProcessLost(f"no answer in {longest_s:.0f} s")
            reply = json.loads(self._wire.recv_bytes())
        except (EOFError, OSError) as error:
            raise ProcessLost("the process has ended") from error
        if "code" in reply:
            raise EchoFedError(Code(reply["code"]), reply["message"], reply["hint"])
        if "traceback" in reply:
            raise ForwardFailed(reply["traceback"])
        layout: list[_Reply] = reply["layout"]
        return layout


class _Region:
    """Memory that two processes see; it grows to the largest batch."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._memory = mmap.mmap(handle, 0)

    @classmethod
    def unnamed(cls) -> "_Region":
        handle = os.memfd_create("batch")
        os.truncate(handle, _FIRST_BYTES)
        return cls(handle)

    def __reduce__(self) -> Any:
        """The way into a process that is being started: the open file, not what is in it."""
        return _region_of, (reduction.DupFd(self._handle),)

    def write(self, columns: Iterable[Sequence[NDArray[Any]]]) -> list[_Reply]:
        """Lay out arrays, each given in pieces, and tell where they are."""
        held, layout, at = [list(pieces) for pieces in columns], [], 0
        for pieces in held:
            shape = (sum(len(piece) for piece in pieces), *pieces[0].shape[1:])
            layout.append({"at": at, "shape": shape, "dtype": pieces[0].dtype.str})
            num_bytes = math.prod(shape) * pieces[0].dtype.itemsize
            at += math.ceil(num_bytes / _ALIGNED_BYTES) * _ALIGNED_BYTES
        if at > len(self._memory):
            os.truncate(self._handle, at)
        for pieces, place in zip(held, self.read(layout), strict=True):
            np.concatenate(pieces, out=place)
        return layout

    def read(self, layout: Sequence[_Reply]) -> Arrays:
        """The arrays of a layout, in the memory itself."""
        size = os.fstat(self._handle).st_size
        if size > len(self._memory):
            self._memory = mmap.mmap(self._handle, size)
        return tuple(
            np.ndarray(one["shape"], np.dtype(one["dtype"]), self._memory, one["at"])
            for one in layout
        )

    def close(self) -> None:
        """Let go; memory that arrays still lie in goes with the last of them."""
        os.close(self._handle)
        del self._memory  # closing it would pull it from under them: numpy takes no hold of it


def _region_of(handle: Any) -> _Region:
    return _Region(handle.detach())


def _live(
    build: str,
    argument: str,
    wire: "Connection[Any, Any]",
    regions: tuple[_Region, _Region],
    threads: int,
) -> None:
    """What the process does: build the model, then compute what comes until nobody listens."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the host drains first, then closes the wire
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait leave the core to calls
    inbox, outbox = regions
    built: list[Forward] = []

    def construct() -> _Reply:
        module, attribute = build.split(":")
        built.append(getattr(import_module(module), attribute)(argument))
        if "torch" in sys.modules:  # it may have been there before
            sys.modules["torch"].set_num_threads(threads)
        return {"layout": []}

    def compute() -> _Reply:
        inputs = inbox.read(layout)
        outputs = built[0](*inputs)
        if any(len(output) != len(inputs[0]) for output in outputs):
            raise ValueError("the model answered with another number of rows")
        return {"layout": outbox.write([output] for output in outputs)}

    with contextlib.suppress(EOFError, OSError):
        wire.send_bytes(_told(construct))
        while True:
            layout = json.loads(wire.recv_bytes())
            wire.send_bytes(_told(compute))


def _told(step: Callable[[], _Reply]) -> bytes:
    try:
        reply = step()
    except EchoFedError as error:
        reply = {"code": int(error.code), "message": error.message, "hint": error.hint}
    except Exception:  # noqa: BLE001  goes to the caller's log; the model serves on
        reply = {"traceback": traceback.format_exc()}
    return json.dumps(reply).encode()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # also in the middle of a batch, for nobody waits for it any more
