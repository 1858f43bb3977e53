"""Segmentation elsewhere: at the hospital's own service, or at the centre by the one door out."""

from collections.abc import Iterator
from datetime import datetime

from shared.echo.frame import Clip
from shared.errors import EchoFedError
from shared.rpc.channel import is_serving
from shared.segmentation.answer import Part, Question
from shared.services.remote_segmentation import segment_remotely
from site_client.connection import open_services
from site_client.egress import Egress
from site_client.hosting import open_own_services
from site_client.settings import CentreSettings, ServicesSettings
from site_client.store import SiteStore

SERVICE = "segmentation"
"""What policy.yaml names under ``services`` where pixels may go to it."""
FULL_NAME = "echofed.v1.SegmentationService"
_DEADLINE_S = 600.0  # what a server takes at most


def segment_at_centre(
    store: SiteStore,
    centre: CentreSettings,
    egress: Egress,
    clip: Clip,
    question: Question,
    *,
    now: datetime,
) -> Iterator[Part]:
    """The models and each frame, by the centre's service.

    Args:
        store: the site's.
        centre: where the centre is.
        egress: the door to it.
        clip: its pixels, spacing and frame time leave the site; its key and patient do not.
        question: what is asked.
        now: aware time.

    Raises:
        EchoFedError: EGRESS_DENIED, recorded, where the policy does not name the service; as
            ``open_services``; what the centre refuses by.
    """
    egress.expect_service(SERVICE, clip)
    with open_services(store, centre, now=now, deadline_s=_DEADLINE_S) as channel:
        egress.release_pixels(SERVICE, clip)
        yield from segment_remotely(channel, clip, question)


def is_served_at_site(store: SiteStore, settings: ServicesSettings, service: str) -> bool:
    """Whether this site hosts a service, by its full name, and it runs; a second at most."""
    try:
        with open_own_services(store, settings, deadline_s=1.0) as channel:
            return is_serving(channel, service)
    except EchoFedError:
        return False


def segment_at_site(
    store: SiteStore, settings: ServicesSettings, clip: Clip, question: Question
) -> Iterator[Part]:
    """The models and each frame, by the service that this site hosts; nothing leaves the hospital.

    Raises:
        EchoFedError: as ``open_own_services``; what the service refuses by.
    """
    with open_own_services(store, settings, deadline_s=_DEADLINE_S) as channel:
        yield from segment_remotely(channel, clip, question)
