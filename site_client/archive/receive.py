"""Receive: a storage provider to which an archive or a scanner sends ultrasound (DICOM PS3.4 B)."""

import logging
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

from pynetdicom import ALL_TRANSFER_SYNTAXES, _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    EnhancedUSVolumeStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    Verification,
)

from shared.errors import Code, EchoFedError
from site_client.archive.inbox import Inbox

log = logging.getLogger(__name__)

_RETIRED = ("1.2.840.10008.5.1.4.1.1.3", "1.2.840.10008.5.1.4.1.1.6")  # old scanners send them
CLASSES = (
    UltrasoundImageStorage, UltrasoundMultiFrameImageStorage, EnhancedUSVolumeStorage, *_RETIRED
)  # fmt: skip
_STORED, _NO_ROOM = 0x0000, 0xA700  # PS3.4 table B.2-1
_GRACE_S = 5.0


class Receiver:
    """What arrives goes into the inbox; counts what was new and what was there already."""

    def __init__(self, inbox: Inbox) -> None:
        """Start with nothing received."""
        self._inbox = inbox
        self._lock = Lock()
        self.port = 0
        self.received = 0
        self.already = 0

    def store(self, event: Event) -> int:
        """Answer one C-STORE request with its status; success only when the file is on disk."""
        instance = str(event.request.AffectedSOPInstanceUID)
        is_new = not self._inbox.has(instance)
        try:
            if is_new:
                self._inbox.put(instance, event.encoded_dataset())
        except EchoFedError as error:
            log.error("%s", error)
            return _NO_ROOM
        except OSError as error:
            log.error("an instance could not be written: %s", error.strerror)
            return _NO_ROOM
        with self._lock:
            self.received += is_new
            self.already += not is_new
        return _STORED


@contextmanager
def receiving(
    inbox: Inbox,
    *,
    title: str,
    host: str,
    port: int,
    allow: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
) -> Iterator[Receiver]:
    """Listen until the block ends; transfers that run then have 5 s to end.

    Args:
        inbox: receives the files.
        title: AE title; calls for another one are refused.
        host: address to listen at.
        port: 0 takes a free one.
        allow: AE titles that may call; empty lets anybody call.
        tls: of the server; None listens unencrypted.

    Raises:
        EchoFedError: CONFIG_INVALID for an impossible title, or an address that cannot be had.
    """
    # the library's log quotes UIDs of patients' files
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    _config.LOG_HANDLER_LEVEL = "none"
    receiver = Receiver(inbox)
    entity = _entity(title, allow)
    listeners = [(evt.EVT_C_STORE, receiver.store), (evt.EVT_REJECTED, _note_refusal)]
    try:
        server = entity.start_server(
            (host, port), block=False, evt_handlers=listeners, ssl_context=tls
        )
    except OSError as error:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"port {port} of {host} cannot be listened at: {error.strerror}",
            "choose another --port or --host; ports below 1024 are the system's",
        ) from error
    receiver.port = server.socket.getsockname()[1]
    try:
        yield receiver
    finally:
        server.shutdown()
        deadline = time.monotonic() + _GRACE_S
        while server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in server.active_associations:
            association.abort()


def _entity(title: str, allow: Sequence[str]) -> ApplicationEntity:
    try:
        entity = ApplicationEntity(ae_title=title)
        entity.require_calling_aet = list(allow)
    except ValueError as error:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "an AE title is impossible",
            "use 1 to 16 ASCII characters without backslash",
        ) from error
    entity.require_called_aet = True
    for storage in CLASSES:
        entity.add_supported_context(storage, ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(Verification)
    return entity


def _note_refusal(event: Event) -> None:
    log.warning("refused a call of %r", event.assoc.requestor.ae_title)
