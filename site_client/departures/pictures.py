"""Pixels and label maps that leave, to a service that the policy names."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.echo.frame import Clip
from shared.echo.manifest import ClipRecord, DatasetManifest
from shared.errors import Code
from site_client.departures.door import Door


class PicturesEgress:
    """What shows patients, or the shape of their hearts."""

    _door: Door

    def expect_service(self, service: str, clip: Clip) -> None:
        """Check that a shared service may be sent pixels; a refusal is recorded.

        Raises:
            EchoFedError: EGRESS_DENIED for a service that the policy does not name.
        """
        self._expect_named(service, clip.key, "pixels")

    def release_pixels(self, service: str, clip: Clip) -> None:
        """Let a clip's pixels go to a shared service; its key and its patient stay.

        Raises:
            EchoFedError: as ``expect_service``.
        """
        self.expect_service(service, clip)
        self._door.sent("pixels", clip.key, np.ascontiguousarray(clip.pixels_THW).tobytes())

    def release_maps(
        self,
        service: str,
        labels_NHW: NDArray[np.uint8],
        manifest: DatasetManifest,
        clips: Sequence[ClipRecord],
    ) -> None:
        """Let label maps made of a dataset's masks go to a shared service, warped ones too.

        Args:
            service: that is to draw them.
            labels_NHW: the maps as they go.
            manifest: of the dataset.
            clips: whose masks the maps were made of.

        Raises:
            EchoFedError: EGRESS_DENIED unless the policy names the service and lets masks go for
                synthesis, TOO_FEW_PATIENTS, POLICY_EXPIRED, DATASET_WITHDRAWN; each is recorded.
        """
        self._expect_named(service, manifest.id, "masks")
        consent = self._door.permit(manifest.id, "masks", "synthesis")
        self._door.require_patients(manifest, clips, consent, "masks")
        self._door.sent("masks", manifest.id, np.ascontiguousarray(labels_NHW).tobytes())

    def _expect_named(self, service: str, subject: str, artefact: str) -> None:
        if service not in self._door.policy.services:
            reason = f"the policy does not name the service {service}"
            self._door.refuse(Code.EGRESS_DENIED, subject, artefact, reason)
