"""How a job stands arrives as it was."""

import pytest

from shared.errors import Code, EchoFedError
from shared.pb import jobs_pb2 as pb
from shared.rpc.job_folder import JobStatus
from shared.services.statuses import status_from, status_to


@pytest.mark.parametrize(
    "status",
    [
        JobStatus("queued"),
        JobStatus("running", 3, 12),
        JobStatus("done", 12, 12),
        JobStatus("cancelled", 3, 12),
    ],
)
def test_how_a_job_stands_arrives_as_it_was(status: JobStatus) -> None:
    assert status_from(status_to(status)) == status


def test_why_a_job_failed_arrives_and_an_unknown_state_does_not() -> None:
    failure = EchoFedError(Code.SECTOR_EMPTY, "blank", "look")
    back = status_from(status_to(JobStatus("failed", 1, 2, failure)))
    assert (back.state, str(back.failure)) == ("failed", str(failure))
    for state in (0, 9):
        with pytest.raises(EchoFedError) as refused:
            status_from(pb.JobStatus(state=state))  # type: ignore[arg-type]
        assert refused.value.code is Code.WIRE_INVALID
