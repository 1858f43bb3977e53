"""Settings of the centre: aggregator.yaml, one class per component."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.echo.expert import FusionVariant
from shared.rpc.settings import ServerSettings
from shared.settings import Settings

Positive = Annotated[int, Field(gt=0)]


class FusionSettings(Settings):
    """How the fusion is trained (Bransby et al. 2024, arXiv 2407.21577, unless stated)."""

    variants: tuple[FusionVariant, ...] = ("sum", "attention", "discrepancy", "ridge", "blend")
    """Variants that are trained and compared."""
    serve: FusionVariant | Literal["best"] = "best"
    """Which becomes the candidate; best: the highest mean log-probability in validation."""
    epochs: Positive = 50
    """Passes over the training rows."""
    batch_size: Positive = 256
    """Rows in a step; the paper's 64 costs about three times the seconds on a CPU."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """Learning rate of Adam; with four times the paper's rows in a step, thrice its 1e-3."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of Adam; the paper uses none."""
    expert_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Chance that a training row is seen without an expert, so that one may be missing later."""
    translate_missing: bool = True
    """Learn from a dataset that an expert did not see with and without its translation."""
    patience: Positive = 10
    """Epochs without a better validation score after which training stops."""
    balance_datasets: bool = True
    """Weigh rows so that datasets count equally."""
    abstain_quantile: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """A verdict abstains below this quantile of the validation clips' highest probability."""
    known_recall: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Share of each site's validation clips that are not rejected as an unknown view or scanner."""
    seed: int = 10
    """Seed of everything random in fusion training."""
    threads: Positive = 2
    """Threads of the numeric library."""

    @model_validator(mode="after")
    def _serve_what_is_trained(self) -> Self:
        if self.serve != "best" and self.serve not in self.variants:
            raise ValueError(f"serve is {self.serve!r}, which is not among the variants")
        if not self.variants or len(set(self.variants)) != len(self.variants):
            raise ValueError("variants must name at least one, and each once")
        return self


class AveragingSettings(Settings):
    """Federated averaging of a segmenter: what each site learns in a round, and how much of it."""

    network: str = "unet"
    """unet or dynunet for masks, contour_net for contours."""
    width: Positive = 32
    """Channels of the first level."""
    depth: Positive = 4
    """Halvings."""
    patch: Positive = 4
    """Pixels a side that the network reads as one."""
    num_landmarks: Positive = 7
    """Of a contour: two base points, the apex and as many on each wall."""
    image_size: Positive = 128
    """Longer side of the network's input; at most each site's own segmenter.image_size."""
    structures: tuple[str, ...] = ()
    """What to tell apart; empty for all that the masks of any site name."""
    views: tuple[str, ...] = ()
    """Of which clips to learn; empty for all with masks."""
    frames_per_clip: Annotated[int, Field(ge=0)] = 8
    """Annotated frames of a clip, spread evenly; 0 for all."""
    epochs: Positive = 1
    """Passes of each site over its frames in a round; at most its own segmenter.epochs."""
    batch_size: Positive = 8
    """Frames in a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Learning rate of the sites' Adam, which begins anew in every round."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Course of the learning rate over the rounds; cosine falls to a 25th in the last one."""
    minimum_sites: Positive = 2
    """Sites that must have sent weights for a round to count."""
    seed: int = 10
    """Seed of the first weights and of what is random at the sites."""


class FederationSettings(Settings):
    """Ports, names and patience."""

    name: str = "echofed"
    """Name of the federation."""
    host: str = "127.0.0.1"
    """Name or address that sites use; stands in the server certificate."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8443
    """Port of the TLS front that sites reach."""
    superlink_port: Annotated[int, Field(ge=0, le=65535)] = 8444
    """Loopback port of the SuperLink behind the front."""
    gather_s: Annotated[float, Field(ge=0)] = 30.0
    """How long an increment waits for sites that are not known to be absent."""
    reply_timeout_s: Positive = 1800
    """How long a round waits for the sites."""


class StoreSettings(Settings):
    """Where state is kept."""

    database: str = ""
    """SQLAlchemy URL; empty is state.sqlite in the folder."""
    tracking: str = ""
    """MLflow tracking URI; empty is mlflow.sqlite in the folder."""


class AggregatorSettings(Settings):
    """All settings of the centre."""

    folder: Path = Path(".")
    """Where the centre keeps its state; relative to the settings file."""
    federation: FederationSettings = FederationSettings()
    services: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    fusion: FusionSettings = FusionSettings()
    segmenter: AveragingSettings = AveragingSettings()
    version: int = 1
