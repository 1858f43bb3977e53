"""How jobs stand, why something failed, and which model answered: to messages and back."""

from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.pb import jobs_pb2 as pb
from shared.rpc.job_folder import ENDS, JobStatus, State

_STATES: tuple[State, ...] = ("queued", "running", *ENDS)


def model_to(model: ModelName) -> pb.ModelName:
    """The message of a model's name."""
    return pb.ModelName(id=model.id, sha256=model.sha256)


def model_from(message: pb.ModelName) -> ModelName:
    """The model's name of a message."""
    return ModelName(message.id, message.sha256)


def failure_to(error: EchoFedError) -> pb.Failure:
    """The message of an error."""
    return pb.Failure(code=int(error.code), message=error.message, hint=error.hint)


def failure_from(message: pb.Failure) -> EchoFedError:
    """The error of a message."""
    return EchoFedError(code_from(message.code), message.message, message.hint)


def code_from(number: int) -> Code:
    """A code, or INTERNAL for one of a newer release."""
    return next((code for code in Code if code == number), Code.INTERNAL)


def status_to(status: JobStatus) -> pb.JobStatus:
    """The message of how a job stands."""
    return pb.JobStatus(
        state=pb.JobState.Name(1 + _STATES.index(status.state)),
        done=status.done,
        total=status.total,
        failure=None if status.failure is None else failure_to(status.failure),
    )


def status_from(message: pb.JobStatus) -> JobStatus:
    """How a job stands.

    Raises:
        EchoFedError: WIRE_INVALID for a state that this release does not know.
    """
    if not 1 <= message.state <= len(_STATES):
        raise EchoFedError(
            Code.WIRE_INVALID,
            "the answer has a job in a state that is not known here",
            "update the older of the two ends",
        )
    failure = failure_from(message.failure) if message.HasField("failure") else None
    return JobStatus(_STATES[message.state - 1], message.done, message.total, failure)
