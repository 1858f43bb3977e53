"""The open centre: settings, folders, state, ledger and bank, from its settings file."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aggregator.feature_bank import FeatureBank
from aggregator.settings import AggregatorSettings
from aggregator.state import State, open_state
from shared.echo.model_card import ModelKind, kind_folder
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from shared.rpc.authority import Authority
from shared.settings import load_settings


@dataclass(frozen=True, slots=True)
class Centre:
    """An open centre."""

    folder: Path
    settings: AggregatorSettings
    state: State
    ledger: Ledger
    bank: FeatureBank

    @property
    def authority(self) -> Authority:
        """Its certificate authority."""
        return Authority(self.folder / "ca")

    @property
    def superlink_folder(self) -> Path:
        return self.folder / "superlink"

    def expert_folder(self, expert: str) -> Path:
        """Where card and weights of an expert lie."""
        return self.folder / "experts" / expert

    def fusion_folder(self, fusion: str) -> Path:
        """Where card and weights of a fusion lie."""
        return self.folder / "fusions" / fusion

    def model_folder(self, kind: ModelKind, model: str) -> Path:
        """Where card and weights of a segmenter or a synthesizer lie."""
        return self.folder / kind_folder(kind) / model

    def average_folder(self, run: str) -> Path:
        """Where a run of federated averaging keeps its last whole round."""
        return self.folder / "averages" / run

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI: the setting, or a file in the folder."""
        return self.settings.store.tracking or f"sqlite:///{self.folder / 'mlflow.sqlite'}"


def open_centre(config: Path, overrides: Sequence[str] = ()) -> Centre:
    """Open the centre that a settings file describes.

    Raises:
        EchoFedError: CONFIG_MISSING, CONFIG_INVALID, CONFIG_UNKNOWN_KEY, STATE_NEWER.
    """
    settings = load_settings(AggregatorSettings, config, overrides)
    folder = (config.parent / settings.folder).resolve()
    state = open_state(folder, settings.store.database)
    return Centre(
        folder, settings, state, Ledger(folder / "ledger.sqlite"), FeatureBank(folder / "bank")
    )


@contextmanager
def alone(centre: Centre) -> Iterator[None]:
    """Hold the centre's increment lock; it falls with the process that holds it.

    Raises:
        EchoFedError: RUN_FAILED where an increment, a fusion or a withdrawal is under way.
    """
    with (centre.folder / "increment.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EchoFedError(
                Code.RUN_FAILED,
                "another increment, fusion or withdrawal is running",
                "wait for it, or stop its run",
            ) from error
        yield
