"""A segmenter of this site through the door, for a person to carry to the centre."""

from shared.echo.segmenter import SegmenterCard, load_segmenter_files
from shared.errors import Code, EchoFedError
from site_client.rounds.desk import Desk


def release_segmenter(desk: Desk, name: str) -> tuple[SegmenterCard, bytes]:
    """Card and weights, as far as the policy of every dataset that it was trained on allows.

    Raises:
        EchoFedError: MODEL_UNKNOWN, CHECKPOINT_CORRUPT, EGRESS_DENIED for one of another site and
            as the policy says.
    """
    card, weights = load_segmenter_files(desk.store.require_segmenter(name))
    if card.site != desk.site:
        raise EchoFedError(
            Code.EGRESS_DENIED,
            f"segmenter {name} is of another site",
            "ask the site that trained it",
        )
    here = [dataset for dataset in card.datasets if dataset in desk.store.datasets()]
    desk.egress.release_segmenter(card, weights, [desk.store.manifest(name) for name in here])
    return card, weights
