"""Pixels that leave, to a service that the policy names."""

import numpy as np

from shared.echo.frame import Clip
from shared.errors import Code
from site_client.departures.door import Door


class PicturesEgress:
    """What shows patients."""

    _door: Door

    def expect_service(self, service: str, clip: Clip) -> None:
        """Check that a shared service may be sent pixels; a refusal is recorded.

        Raises:
            EchoFedError: EGRESS_DENIED for a service that the policy does not name.
        """
        if service not in self._door.policy.services:
            reason = f"the policy does not name the service {service}"
            self._door.refuse(Code.EGRESS_DENIED, clip.key, "pixels", reason)

    def release_pixels(self, service: str, clip: Clip) -> None:
        """Let a clip's pixels go to a shared service; its key and its patient stay.

        Raises:
            EchoFedError: as ``expect_service``.
        """
        self.expect_service(service, clip)
        self._door.sent("pixels", clip.key, np.ascontiguousarray(clip.pixels_THW).tobytes())
