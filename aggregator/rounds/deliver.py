"""Last round: a promoted fusion goes to the sites with the experts it needs."""

from aggregator.rounds.describe import Roll
from aggregator.rounds.evaluate import fusion_request
from aggregator.rounds.round import Round
from shared.echo.expert import load_fusion
from shared.errors import Code, EchoFedError
from shared.payload import Payload

REQUEST = "query.deliver"


def deliver(current: Round, roll: Roll, fusion: str) -> tuple[str, ...]:
    """Send the fusion to every present site that does not serve it yet.

    Returns:
        The sites that now serve it.
    """
    card, weights = load_fusion(current.centre.fusion_folder(fusion))
    serving = [site for site in roll.present if roll.serving.get(site) == fusion]

    def take(site: str, reply: Payload) -> None:
        receipt = current.tally.note_receipt(site, reply)
        if receipt.get("serving") != fusion:
            raise EchoFedError(
                Code.WIRE_INVALID, f"site {site!r} does not say that it serves {fusion}", ""
            )
        serving.append(site)
        body = {"fusion": fusion, "site": site, "sha256": card.weights_sha256}
        current.centre.ledger.append("fusion.delivered", body, actor="centre")

    requests = {
        site: fusion_request(current, card, weights, roll.received[site])
        for site in roll.present
        if site not in serving
    }
    current.collect(REQUEST, requests, take)
    return tuple(sorted(serving))
