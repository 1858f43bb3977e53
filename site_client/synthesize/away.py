"""Drawing elsewhere: at the hospital's own service, or at the centre by the one door out."""

from collections.abc import Callable, Iterator
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from shared.services.remote_synthesis import synthesize_remotely
from shared.synthesis.order import Order, Part
from site_client.connection import open_services
from site_client.departures.pictures import PicturesEgress
from site_client.hosting import open_own_services
from site_client.settings import CentreSettings, ServicesSettings
from site_client.store import SiteStore
from site_client.synthesize.maps import DatasetSource, MapSource

SERVICE = "synthesis"
"""What policy.yaml names under ``services`` where label maps of patients may go to it."""
FULL_NAME = "echofed.v1.SynthesisService"
_DEADLINE_S = 300.0  # of one call; a job may take several
Release = Callable[[NDArray[np.uint8]], None]
"""Lets label maps go, or refuses."""


def draw_at_site(store: SiteStore, settings: ServicesSettings, order: Order) -> Iterator[Part]:
    """The model and each image, by the service that this site hosts; nothing leaves the hospital.

    Raises:
        EchoFedError: as ``open_own_services``; what the service refuses by.
    """
    with open_own_services(store, settings, deadline_s=_DEADLINE_S) as channel:
        yield from synthesize_remotely(channel, order)


def draw_at_centre(
    store: SiteStore, centre: CentreSettings, release: Release, order: Order, *, now: datetime
) -> Iterator[Part]:
    """The model and each image, by the centre's service.

    Args:
        store: the site's.
        centre: where the centre is.
        release: is asked before any map goes.
        order: its maps leave the site; whose they are does not.
        now: aware time.

    Raises:
        EchoFedError: what ``release`` refuses by; as ``open_services``; what the centre refuses by.
    """
    with open_services(store, centre, now=now, deadline_s=_DEADLINE_S) as channel:
        if order.labels_NHW is not None:
            release(order.labels_NHW)
        yield from synthesize_remotely(channel, order)


def release_of(egress: PicturesEgress, maps: MapSource, *, num: int) -> Release:
    """How maps of a source leave: those of patients by the policy, the phantom's always.

    Args:
        egress: the door to the centre.
        maps: where the label maps are from.
        num: of images, by which it is known whose maps are taken.
    """
    if not isinstance(maps, DatasetSource):
        return lambda labels_NHW: None
    manifest, clips = maps.manifest, maps.clips(num)
    return lambda labels_NHW: egress.release_maps(SERVICE, labels_NHW, manifest, clips)
