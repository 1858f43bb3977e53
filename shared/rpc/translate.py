"""Errors over the wire: code to gRPC status and back to the same error.

gRPC sends the text of an uncaught exception to the caller, and such a text may name a patient's
file. So only errors of the family are told; anything else is a number that the log explains.
"""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from shared.errors import Code, EchoFedError

log = logging.getLogger(__name__)
CODE_KEY = "echofed-code"
HINT_KEY = "echofed-hint-bin"  # gRPC takes other bytes than ASCII under names in -bin only
_LONGEST_TEXT = 1000  # trailing metadata has 8 KiB

_S = grpc.StatusCode
_CODES: Mapping[grpc.StatusCode, tuple[Code, ...]] = {
    _S.INTERNAL: (Code.INTERNAL, Code.RUN_FAILED),
    _S.INVALID_ARGUMENT: (
        *(Code.CONFIG_INVALID, Code.CONFIG_UNKNOWN_KEY, Code.LABEL_UNMAPPED, Code.VIEW_UNKNOWN),
        *(Code.ONE_CLASS_ONLY, Code.LABEL_MAP_INVALID, Code.LABEL_MAP_UNSIGNED, Code.MODE_UNWANTED),
        Code.ORIGIN_UNFIT,
        *(Code.DATA_UNREADABLE, Code.PIXELS_MISSING, Code.FRAMES_MISSING, Code.SECTOR_EMPTY),
        *(Code.PATIENT_IN_TWO_SPLITS, Code.NOTHING_INGESTED, Code.TEXT_FOUND, Code.FEATURE_WIDTH),
        *(Code.FEATURES_NOT_FINITE, Code.SHAPE_MISMATCH, Code.FEATURES_INVALID, Code.WIRE_INVALID),
        *(Code.SPACING_MISSING, Code.CONTOUR_INVALID, Code.VIEWS_UNFIT, Code.LANDMARKS_MISSING),
        Code.MAP_IMPLAUSIBLE,
    ),
    _S.NOT_FOUND: (
        *(Code.NAME_UNKNOWN, Code.DATASET_UNKNOWN, Code.PATIENT_UNKNOWN, Code.EXPERT_UNKNOWN),
        *(Code.FUSION_UNKNOWN, Code.MODEL_UNKNOWN, Code.JOB_UNKNOWN),
    ),
    _S.ALREADY_EXISTS: (Code.ALREADY_EXISTS, Code.DUPLICATE_REPLY),
    _S.FAILED_PRECONDITION: (
        *(Code.CONFIG_MISSING, Code.BUNDLE_UNAPPROVED, Code.DATASET_WITHDRAWN, Code.CARD_NEWER),
        *(Code.STATE_NEWER, Code.NOTHING_TO_DO, Code.CHANGE_REFUSED, Code.RESULT_MISSING),
    ),
    _S.PERMISSION_DENIED: (
        *(Code.EGRESS_DENIED, Code.TOO_FEW_PATIENTS, Code.POLICY_EXPIRED, Code.NODE_REFUSED),
        *(Code.IDENTITY_MISMATCH, Code.APPROVER_UNKNOWN, Code.ROLE_REFUSED),
    ),
    _S.UNAUTHENTICATED: (Code.CERTIFICATE_EXPIRED, Code.TOKEN_INVALID),
    _S.DATA_LOSS: (Code.CHECKPOINT_CORRUPT, Code.SIGNATURE_INVALID, Code.LEDGER_BROKEN),
    _S.RESOURCE_EXHAUSTED: (Code.DISK_FULL, Code.SERVICE_BUSY, Code.REQUEST_TOO_LARGE),
    _S.UNAVAILABLE: (
        *(Code.SITE_UNREACHABLE, Code.CENTRE_UNREACHABLE, Code.ARCHIVE_UNREACHABLE),
        *(Code.ARCHIVE_REFUSED, Code.WORKER_LOST),
    ),
    _S.DEADLINE_EXCEEDED: (Code.DEADLINE_EXCEEDED,),
}
STATUS: Mapping[Code, grpc.StatusCode] = {
    code: status for status, codes in _CODES.items() for code in codes
}
"""The status of every code."""

_BARE: Mapping[grpc.StatusCode, tuple[Code, str, str]] = {
    _S.UNAVAILABLE: (
        Code.CENTRE_UNREACHABLE,
        "the service does not answer, or does not take this certificate",
        "check address, network, the certificate and that the service runs there",
    ),
    _S.DEADLINE_EXCEEDED: (
        Code.DEADLINE_EXCEEDED,
        "the service did not answer in time",
        "allow more time, or ask for less at once",
    ),
    _S.CANCELLED: (Code.CENTRE_UNREACHABLE, "the call was broken off", "call again"),
    _S.RESOURCE_EXHAUSTED: (Code.SERVICE_BUSY, "the service is busy", "try again in a while"),
    _S.UNIMPLEMENTED: (
        Code.NAME_UNKNOWN,
        "the other side does not host this service",
        "ask which services it hosts, and update the older of the two",
    ),
}
"""What gRPC itself says, without a code of ours."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What goes over the wire instead of an answer."""

    code: Code
    status: grpc.StatusCode
    details: str
    trailers: tuple[tuple[str, str | bytes], ...]


def told_of(error: Exception) -> EchoFedError:
    """What may be told of an error.

    An error that is none of the family is logged with its traceback under an incident number, and
    the number is all that is told.
    """
    if isinstance(error, EchoFedError):
        return error
    incident = secrets.token_hex(4)
    log.error("incident %s", incident, exc_info=error)
    return EchoFedError(
        Code.INTERNAL,
        f"the service failed, incident {incident}",
        "ask its operator, whose log has the incident",
    )


def refusal_of(error: Exception) -> Refusal:
    """What the caller is told of an error, as ``told_of``."""
    told = told_of(error)
    return Refusal(
        told.code,
        STATUS[told.code],
        told.message[:_LONGEST_TEXT],
        (
            (CODE_KEY, str(int(told.code))),
            (HINT_KEY, told.hint[:_LONGEST_TEXT].encode()),
        ),
    )


def error_of(call: grpc.RpcError) -> EchoFedError:
    """The error that a failed call stands for: the service's own, or what gRPC says in its place.

    Args:
        call: as raised by a stub; it is a ``grpc.Call`` too.
    """
    status, details = call.code(), call.details() or ""
    trailers: dict[str, str | bytes] = dict(call.trailing_metadata() or ())
    number, hint = trailers.get(CODE_KEY), trailers.get(HINT_KEY)
    known = {str(int(code)): code for code in Code}
    if number in known:
        way_out = hint.decode(errors="replace") if isinstance(hint, bytes) else ""
        return EchoFedError(known[str(number)], details, way_out)
    if number is not None:
        return EchoFedError(Code.INTERNAL, details, "update this installation to read its code")
    if status is _S.RESOURCE_EXHAUSTED and "larger than max" in details:
        return EchoFedError(
            Code.REQUEST_TOO_LARGE, "a message is larger than is taken", "send less at once"
        )
    bare = (Code.INTERNAL, f"the call failed with {status.name}", "ask the service's operator")
    return EchoFedError(*_BARE.get(status, bare))
