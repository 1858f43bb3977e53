"""Services that the centre hosts, and the models that they and the sites may fetch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aggregator.cards import cards_of, with_trunks
from aggregator.centre import Centre
from aggregator.enrolment import revoked_keys
from aggregator.serving import served_models, serving_fusion
from shared.echo.expert import CARD_FILE, WEIGHTS_FILE, FusionCard, read_fusion_card
from shared.errors import Code, EchoFedError
from shared.files import read_json
from shared.rpc.authority import sign_model_card
from shared.rpc.peer import Credentials, Peer
from shared.services.house import House, running_house
from shared.services.running import RunningModels
from shared.services.store import StoredModel

SERVING = "serving"


@dataclass(frozen=True, slots=True)
class ServingModels:
    """What may be fetched: the promoted fusion and what it needs, and what was registered.

    The fusion is called ``serving``; experts and trunks go by their ids, segmenters and
    synthesizers by alias or id.
    """

    centre: Centre

    def find(self, alias: str, *, caller: Peer) -> StoredModel:
        """Return a model of what serves now, signed; the ledger says who fetched it.

        Raises:
            EchoFedError: MODEL_UNKNOWN before the first promotion, and for an expert that the
                serving fusion does not need.
        """
        folder, sha256 = self._registered(alias) or self._of_fusion(alias)
        path = folder / CARD_FILE
        signature = sign_model_card(self.centre.authority, path.read_bytes())
        self.centre.ledger.append(
            "model.fetched",
            {"model": folder.name, "sha256": sha256, "caller": caller.name, "role": caller.role},
            actor="centre",
        )
        return StoredModel(path, folder / WEIGHTS_FILE, signature)

    def _registered(self, alias: str) -> tuple[Path, str] | None:
        for one in served_models(self.centre.ledger).values():
            if alias == one.model or alias in one.aliases:
                return self.centre.model_folder(one.kind, one.model), one.sha256
        return None

    def _of_fusion(self, alias: str) -> tuple[Path, str]:
        fusion = serving_fusion(self.centre.ledger)
        if fusion is None:
            raise EchoFedError(
                Code.MODEL_UNKNOWN,
                f"no fusion serves yet, and no model is called {alias[:80]!r}",
                "let the centre promote or register one",
            )
        card = read_fusion_card(read_json(self.centre.fusion_folder(fusion) / CARD_FILE))
        found = self._needed(card).get(alias)
        if found is None:
            raise EchoFedError(
                Code.MODEL_UNKNOWN,
                f"nothing that serves is called {alias[:80]!r}",
                f"ask for {SERVING}, an expert of its card, or another model by its alias",
            )
        return found

    def _needed(self, fusion: FusionCard) -> dict[str, tuple[Path, str]]:
        experts = with_trunks(self.centre, cards_of(self.centre, fusion))
        needed = {
            card.id: (self.centre.expert_folder(card.id), card.weights_sha256) for card in experts
        }
        return {**needed, SERVING: (self.centre.fusion_folder(fusion.id), fusion.weights_sha256)}


@contextmanager
def running_services(centre: Centre, names: Sequence[str], *, host: str) -> Iterator[int]:
    """Hold services of the table, and their metrics where the settings name a port.

    Args:
        centre: whose models, certificates and revocations count.
        names: of the services.
        host: address to listen on.

    Yields:
        The port.

    Raises:
        EchoFedError: NAME_UNKNOWN, or CENTRE_UNREACHABLE where a port is taken.
    """
    settings, authority = centre.settings.services, centre.authority
    house = House(
        centre.folder / "jobs",
        Credentials(authority.ca_pem, authority.server_pem, authority.server_key),
        RunningModels(lambda: _model_folders(centre), settings.worker),
        ServingModels(centre),
        revoked_keys=lambda: revoked_keys(authority),
    )
    with running_house(house, settings, names, listen=host) as port:
        yield port


def _model_folders(centre: Centre) -> dict[str, Path]:
    return {
        alias: centre.model_folder(one.kind, one.model)
        for one in served_models(centre.ledger).values()
        for alias in one.aliases
    }
