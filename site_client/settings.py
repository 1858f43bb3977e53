"""Settings of a site: site.yaml, one class per component."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.rpc.settings import ServerSettings
from shared.settings import Settings

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class IngestSettings(Settings):
    """How files become a dataset."""

    keep_pixels: Literal["sector", "region", "screen"] = "sector"
    """What stays: the fan, the scanner's 2-D region, or the screen (phantom or public data)."""
    accept_unsigned_map: bool = False
    """Take a label map of real data that nobody has signed."""
    text: Literal["quarantine", "blank", "keep"] = "quarantine"
    """Clips with text in the sector (or the kept region): held, blanked, or kept (phantom only)."""
    modes: Annotated[
        tuple[Literal["b_mode", "colour", "spectral", "m_mode"], ...], Field(min_length=1)
    ] = ("b_mode",)
    """Kinds of clips that are wanted; spectra and M-mode keep their pixels with region only."""
    val_fraction: Fraction = 0.1
    """Share of the patients in the validation split."""
    test_fraction: Fraction = 0.25
    """Share of the patients in the test split."""
    workers: Positive = 1
    """Processes that read files."""


class ReceiveSettings(Settings):
    """TLS of the C-STORE receiver (PS3.15 B); paths are relative to the settings file."""

    certificate: Path | None = None
    """Certificate of this receiver with its chain (PEM); absent for no TLS."""
    key: Path | None = None
    """Its private key (PEM, mode 600)."""
    senders: Path | None = None
    """Authorities (PEM) of which every sender must show a certificate; absent for any sender."""

    @model_validator(mode="after")
    def _come_together(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key come together")
        if self.senders is not None and self.certificate is None:
            raise ValueError("senders can be asked for certificates over TLS only: set certificate")
        return self


class BackMixSettings(Settings):
    """BackMix: backgrounds swapped between training images (Bransby et al., MICCAI 2024)."""

    enabled: bool = True
    """Off trains a plain expert, for comparison."""
    mask_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share f of the training frames whose mask may be used; the others stay as they are."""
    loss_lambda: Annotated[float, Field(ge=0)] = 0.0
    """wBackMix: weight 1+lambda(1-f) of mixed frames, 1-lambda*f of others; 0 is plain BackMix."""


class ExpertSettings(Settings):
    """How an expert is trained."""

    backbone: str = "mobilenetv4_conv_small"
    """Name of a timm model, or cifar_resnet18 for the paper's network."""
    image_size: Positive = 112
    """Rows and columns of the network's input."""
    start_from: str = ""
    """Id of an expert at this site whose weights training starts from; empty for scratch."""
    trunk: str = ""
    """Id of a full expert at this site that stays frozen; only an adapter beside it is trained."""
    epochs: Positive = 40
    """Upper bound of passes over the training frames."""
    patience: Positive = 8
    """Epochs without a better validation score after which training stops."""
    batch_size: Positive = 32
    """Frames in a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate of Adam; the peak where schedule is onecycle."""
    schedule: Literal["constant", "onecycle"] = "constant"
    """Course of the learning rate."""
    rotation_deg: Annotated[float, Field(ge=0)] = 30.0
    """Rotation uniform in plus and minus this angle."""
    flip_probability: Fraction = 0.5
    """Chance of a left-right flip."""
    brightness: Annotated[float, Field(ge=0)] = 0.15
    """Brightness and contrast change by up to this share."""
    restrict_to_present: bool = False
    """Leave views without a training frame out of the loss (sequential fine-tuning)."""
    backmix: BackMixSettings = BackMixSettings()
    seed: int = 10
    """Seed of everything random in training."""
    threads: Positive = 2
    """Threads of the numeric library."""

    @model_validator(mode="after")
    def _begin_once(self) -> Self:
        if self.trunk and self.start_from:
            raise ValueError("an expert on a trunk starts from its trunk: leave start_from empty")
        return self


class ContourLossSettings(Settings):
    """What each term of the contour network's loss counts; 0 leaves it out."""

    points: Annotated[float, Field(ge=0)] = 1.0
    """Distance of the landmarks from the reference (mm)."""
    spread: Annotated[float, Field(ge=0)] = 3.0
    """Divergence of the heat maps from a narrow spot (nats)."""
    likelihood: Annotated[float, Field(ge=0)] = 0.1
    """Gaussian likelihood of the landmarks (nats); makes their covariance honest."""
    distance: Annotated[float, Field(ge=0)] = 1.0
    """Error of the distance map (mm)."""
    coupling: Annotated[float, Field(ge=0)] = 0.5
    """Predicted distance along the spline through the predicted landmarks (mm)."""


class SegmenterSettings(Settings):
    """How a segmenter is trained."""

    network: str = "unet"
    """unet or dynunet for masks, contour_net for contours."""
    width: Positive = 32
    """Channels of the first level."""
    depth: Positive = 4
    """Halvings."""
    patch: Positive = 4
    """Pixels a side that the network reads as one; 1 is slowest and finest."""
    num_landmarks: Positive = 7
    """Of a contour: two base points, the apex and as many on each wall."""
    image_size: Positive = 256
    """Longer side of the network's input; its pixels are square in mm."""
    structures: tuple[str, ...] = ()
    """What to tell apart; empty for all that the datasets' masks name."""
    views: tuple[str, ...] = ()
    """Of which clips to learn; empty for all with masks."""
    frames_per_clip: Annotated[int, Field(ge=0)] = 8
    """Annotated frames of a clip, spread evenly; 0 for all."""
    start_from: str = ""
    """Id of a segmenter at this site whose weights training starts from; of one with other outputs
    the trunk. Empty for scratch."""
    epochs: Positive = 40
    """Passes over the training frames."""
    patience: Positive = 40
    """Epochs without a better validation score after which training stops."""
    batch_size: Positive = 8
    """Frames in a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """Learning rate of Adam; the highest of the schedule."""
    schedule: Literal["constant", "onecycle", "cosine"] = "cosine"
    """Course of the learning rate."""
    rotation_deg: Annotated[float, Field(ge=0)] = 15.0
    """Rotation uniform in plus and minus this angle."""
    zoom: Annotated[float, Field(ge=0)] = 0.2
    """Larger or smaller by up to this share."""
    shift: Fraction = 0.1
    """Moved by up to this share of the side."""
    brightness: Annotated[float, Field(ge=0)] = 0.15
    """Brightness and contrast change by up to this share."""
    gamma: Annotated[float, Field(ge=0)] = 0.35
    """Log of the grey values' exponent, in plus and minus this."""
    backmix: bool = True
    """Swap backgrounds between frames whose sector is known."""
    contour_loss: ContourLossSettings = ContourLossSettings()
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the network learns."""
    seed: int = 10
    """Seed of everything random in training."""
    threads: Positive = 2
    """Threads of the numeric library."""


class AutoencoderSettings(Settings):
    """How the autoencoder of a synthesizer is trained."""

    network: str = "kl"
    """kl, gamma, or pixels for none."""
    options: dict[str, bool | int | float | str | tuple[int, ...]] = Field(default_factory=dict)
    """What the network is built with; its own defaults hold for what is left out."""
    steps: Positive = 20_000
    """Upper bound of steps."""
    check_every: Positive = 500
    """Steps between validations and checkpoints at most."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """After so many the training ends with the next validation; 0 for no limit."""
    batch_size: Positive = 16
    """Frames in a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Highest learning rate of Adam; falls along half a cosine."""
    flip_probability: Fraction = 0.5
    """Chance of a left-right flip; texture has no left."""


class SamplerSettings(Settings):
    """How noise becomes an image, unless a caller asks otherwise."""

    solver: str = "unipc3"
    """Name in the table of solvers."""
    schedule: str = "karras"
    """Name in the table of schedules."""
    steps: Positive = 10
    """Of the solver."""
    sigma_min: Annotated[float, Field(gt=0)] = 0.02
    """Last noise level above 0, in units of the normalised latent."""
    sigma_max: Annotated[float, Field(gt=0)] = 80.0
    """First noise level."""
    guidance: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the label map's pull; 1 is the plain conditional network."""

    @model_validator(mode="after")
    def _descend(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError("sigma_min lies below sigma_max")
        return self


class SynthesizerSettings(Settings):
    """How a synthesizer is trained."""

    network: str = "spade_unet"
    """Name in the table of denoisers."""
    options: dict[str, bool | int | float | str | tuple[int, ...]] = Field(default_factory=dict)
    """What the network is built with, beside channels, structures and views."""
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    autoencoder_from: str = ""
    """Id of a synthesizer at this site whose autoencoder is taken as it is; empty to train one."""
    precondition: str = "edm"
    """Name in the table of preconditionings."""
    sigma_data: Annotated[float, Field(gt=0)] = 0.5
    """Deviation of the normalised latent inside the sector; what an autoencoder fixes stays."""
    evenness: Fraction = 1.0
    """How far the channels are brought to one deviation: 1 wholly, 0 not at all. Below 1, each is
    wrapped by its own (precondition edm only)."""
    inside_only: bool = False
    """Leave what lies outside the sector out of the denoiser's loss."""
    sampler: SamplerSettings = SamplerSettings()
    embedding_steps: Positive = 200
    """Of the network that tells patients apart, by which images too near to a training frame are
    held back."""
    image_size: Positive = 128
    """Rows and columns of what is drawn; pixels are square in mm."""
    structures: tuple[str, ...] = ()
    """What the label maps tell apart; empty for all that the datasets' masks name."""
    views: tuple[str, ...] = ()
    """Of which clips to learn; empty for all with masks."""
    frames_per_clip: Annotated[int, Field(ge=0)] = 8
    """Annotated frames of a clip, spread evenly; 0 for all."""
    num_labelled: Annotated[int, Field(ge=0)] = 0
    """Training patients whose label maps are used, chosen by the seed; 0 for all. The autoencoder
    learns from the frames of all patients, without their labels."""
    steps: Annotated[int, Field(ge=0)] = 20_000
    """Of the denoiser at most; 0 for no limit."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """Of the denoiser's training at most, validation and pictures not counted; 0 for no limit."""
    batch_size: Positive = 16
    """Frames in a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Highest learning rate of Adam; falls to 0 along half a cosine."""
    warm_up: Annotated[int, Field(ge=0)] = 100
    """Steps over which the learning rate rises."""
    half_life: Annotated[float, Field(ge=0)] = 10_000.0
    """Images after which a weight counts half in the average that draws; 0 for no average."""
    label_dropout: Fraction = 0.1
    """Chance that a frame's label map is hidden from the network, and that its view is."""
    rotation_deg: Annotated[float, Field(ge=0)] = 10.0
    """Rotation uniform in plus and minus this angle."""
    zoom: Annotated[float, Field(ge=0)] = 0.15
    """Larger or smaller by up to this share."""
    shift: Fraction = 0.05
    """Moved by up to this share of the side."""
    check_every: Positive = 500
    """Steps between validations, pictures and checkpoints."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's arithmetic; its weights are float32."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the networks learn."""
    seed: int = 10
    """Seed of everything random in training."""
    threads: Positive = 2
    """Threads of the numeric library."""

    @model_validator(mode="after")
    def _end(self) -> Self:
        if not self.steps and not self.seconds:
            raise ValueError("a training needs an end: set steps or seconds")
        if self.evenness < 1 and self.precondition != "edm":
            raise ValueError("only edm wraps channel by channel: set evenness 1, or that")
        return self


class ExtractSettings(Settings):
    """How exports are made."""

    passes: Annotated[int, Field(ge=0)] = 2
    """Augmented passes over the training frames beside the plain one."""
    batch_size: Positive = 64
    """Frames in a forward pass."""
    threads: Positive = 2
    """Threads of the numeric library."""


class ServicesSettings(ServerSettings):
    """Services that this site hosts for machines of the hospital."""

    host: str = "127.0.0.1"
    """Name or address at which they are reached; loopback for this machine only."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8446
    """Their port, with mutual TLS; 0 takes a free one."""
    num_per_caller: Positive = 8
    """Calls of one caller under way at once; the site's own commands are one caller."""


class CentreSettings(Settings):
    """Where the centre is; written by init KIT."""

    address: str
    """Host and port of the centre's front."""
    federation: str
    """Name of the federation."""
    services: str = ""
    """Host and port of the centre's services over gRPC; empty where the kit named none."""
    heartbeat_s: Annotated[int, Field(ge=10, le=1800)] = 30
    """Seconds between signs of life; the centre notices a lost node after two of them."""
    patience_s: Positive = 180
    """How long a refusal or a silent centre is borne before federate gives up."""


class SiteSettings(Settings):
    """All settings of a site."""

    site: str
    """Site code; carries no name of a patient."""
    folder: Path = Path(".")
    """Where the site keeps its state; relative to the settings file."""
    centre: CentreSettings | None = None
    """Absent at a standalone site."""
    receive: ReceiveSettings = ReceiveSettings()
    ingest: IngestSettings = IngestSettings()
    task: Literal["views", "segmentation", "synthesis"] = "views"
    """What train learns: an expert of views, a segmenter, or a synthesizer."""
    expert: ExpertSettings = ExpertSettings()
    segmenter: SegmenterSettings = SegmenterSettings()
    synthesizer: SynthesizerSettings = SynthesizerSettings()
    extract: ExtractSettings = ExtractSettings()
    services: ServicesSettings = ServicesSettings()
    version: int = 1
