"""Answer what the masks of this site's datasets name, as far as segmenters may learn from them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.echo.mask import STRUCTURES
from shared.errors import EchoFedError
from shared.payload import Payload
from site_client.annotated import LEARNT_SPLITS, annotated_clips
from site_client.rounds.desk import Desk, expect_body, open_desk, refusal

log = logging.getLogger(__name__)


def answer(config: Path, request: Payload) -> Payload:
    """Name structures and views of every dataset asked for; a refused one is told as its code."""
    desk = open_desk(config)
    (wanted,) = expect_body(request, "datasets")
    offers: list[dict[str, Any]] = []
    refused = []
    for name in wanted or desk.store.datasets():
        names = {"dataset": str(name)} if wanted else {}  # told only where the centre said it first
        try:
            offers += _offer(desk, str(name))
        except EchoFedError as error:
            log.warning("masks not offered: %s", error)
            refused.append(refusal(error, **names))
    return Payload({"offers": offers, "receipt": desk.receipt(refused=refused)})


def _offer(desk: Desk, dataset: str) -> Sequence[dict[str, Any]]:
    manifest = desk.store.manifest(dataset)
    drawn = list(annotated_clips(manifest, LEARNT_SPLITS))
    if not drawn:
        return ()
    known = {name for record, _ in drawn for name in record.structures}
    structures = [name for name in STRUCTURES[1:] if name in known]
    views = sorted({view for _, view in drawn})
    return (desk.egress.release_annotations(manifest, structures=structures, views=views),)
