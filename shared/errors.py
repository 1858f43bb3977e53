"""One family of errors: every failure a user can meet has a code, a message and a way out."""

from enum import IntEnum


class Code(IntEnum):
    """Numbered causes, grouped by tens; the number is the exit code of a command."""

    INTERNAL = 1
    CONFIG_INVALID = 10
    CONFIG_UNKNOWN_KEY = 11
    CONFIG_MISSING = 12
    NAME_UNKNOWN = 13
    ALREADY_EXISTS = 14
    LABEL_UNMAPPED = 20
    VIEW_UNKNOWN = 21
    ONE_CLASS_ONLY = 22
    LABEL_MAP_INVALID = 23
    LABEL_MAP_UNSIGNED = 24
    MAP_IMPLAUSIBLE = 25
    ORIGIN_UNFIT = 28
    MODE_UNWANTED = 29
    DATA_UNREADABLE = 30
    PIXELS_MISSING = 31
    FRAMES_MISSING = 32
    SECTOR_EMPTY = 33
    PATIENT_IN_TWO_SPLITS = 34
    NOTHING_INGESTED = 35
    DISK_FULL = 36
    DATASET_UNKNOWN = 37
    TEXT_FOUND = 38
    PATIENT_UNKNOWN = 39
    EGRESS_DENIED = 40
    TOO_FEW_PATIENTS = 41
    POLICY_EXPIRED = 42
    BUNDLE_UNAPPROVED = 43
    DATASET_WITHDRAWN = 44
    CARD_NEWER = 50
    FEATURES_NOT_FINITE = 51
    FEATURE_WIDTH = 52
    EXPERT_UNKNOWN = 53
    CHECKPOINT_CORRUPT = 54
    FUSION_UNKNOWN = 55
    SHAPE_MISMATCH = 56
    FEATURES_INVALID = 57
    SIGNATURE_INVALID = 58
    WIRE_INVALID = 60
    NODE_REFUSED = 61
    CERTIFICATE_EXPIRED = 62
    SITE_UNREACHABLE = 63
    CENTRE_UNREACHABLE = 64
    DUPLICATE_REPLY = 65
    IDENTITY_MISMATCH = 66
    TOKEN_INVALID = 67
    RUN_FAILED = 68
    LEDGER_BROKEN = 70
    STATE_NEWER = 71
    MODEL_UNKNOWN = 72
    NOTHING_TO_DO = 73
    CHANGE_REFUSED = 74
    APPROVER_UNKNOWN = 75
    ARCHIVE_UNREACHABLE = 80
    ARCHIVE_REFUSED = 81
    SERVICE_BUSY = 90
    DEADLINE_EXCEEDED = 91
    ROLE_REFUSED = 92
    REQUEST_TOO_LARGE = 93
    WORKER_LOST = 94
    SPACING_MISSING = 95
    CONTOUR_INVALID = 96
    VIEWS_UNFIT = 97
    LANDMARKS_MISSING = 98
    JOB_UNKNOWN = 100
    RESULT_MISSING = 101


class EchoFedError(Exception):
    """A failure that a person can act on.

    Args:
        code: the numbered cause; the exit code of a command.
        message: names the thing and the value, never a patient.
        hint: the way out.
    """

    def __init__(self, code: Code, message: str, hint: str = "") -> None:
        """Keep code, message and hint."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return code, message and way out in one line."""
        tail = f" -> {self.hint}" if self.hint else ""
        return f"[{self.code.name} {int(self.code)}] {self.message}{tail}"
