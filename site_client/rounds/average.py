"""Answer a round of federated averaging: learn from the weights that came, and send what they are.

McMahan et al. 2017 (arXiv 1602.05629). Adam's moments and all else of the training stay here.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from shared.echo.manifest import DatasetManifest
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.models.backbone import load_weights, pack_tensors, unpack_tensors
from shared.payload import Payload
from shared.settings import build_settings, dump_settings, hash_settings
from site_client.rounds.desk import Desk, expect_body, open_desk, refusal
from site_client.settings import SegmenterSettings
from site_client.training.checkpoint import Checkpoint
from site_client.training.expert import numeric_threads
from site_client.training.segmenter import Lesson, first_network, judge_of, learn, prepare_lesson

log = logging.getLogger(__name__)
WEIGHTS = "weights"
_SENT = frozenset(
    {
        "network", "width", "depth", "patch", "num_landmarks", "image_size", "structures", "views",
        "frames_per_clip", "epochs", "batch_size", "learning_rate", "seed",
    }
)  # fmt: skip
"""What the centre decides of a training; the rest is the site's."""


@dataclass(frozen=True, slots=True)
class Task:
    """A request that was checked.

    Args:
        settings: the site's, with what the centre decides.
        manifests: datasets that may be learnt from.
        refused: the others, as the centre is told.
    """

    desk: Desk
    settings: SegmenterSettings
    manifests: tuple[DatasetManifest, ...]
    refused: tuple[dict[str, str | int], ...]
    weights: bytes

    def open(self) -> tuple[nn.Module, Lesson]:
        """The network with the weights that came, and what it learns from."""
        names = [manifest.id for manifest in self.manifests]
        wanted = self.settings.structures
        lesson = prepare_lesson(self.desk.store, names, self.settings, elsewhere=wanted)
        network = first_network(self.settings, lesson.train.structures)
        load_weights(network, unpack_tensors(self.weights))
        return network, lesson

    def figures(self, network: nn.Module, lesson: Lesson) -> dict[str, float]:
        """Validation figures, of structures alone that somebody here annotated."""
        details = judge_of(lesson, self.settings)(network).details
        hidden = {
            f"val_dice_{name}"
            for place, name in enumerate(lesson.val.structures)
            if not lesson.val.annotated_NS[:, place].any()
        }
        return {name: value for name, value in details.items() if name not in hidden}

    def reply(self, said: Mapping[str, Any], blobs: Mapping[str, bytes]) -> Payload:
        """The answer with its receipt."""
        receipt = self.desk.receipt(refused=list(self.refused))
        names = [manifest.id for manifest in self.manifests]
        return Payload({"datasets": names, **said, "receipt": receipt}, blobs)


def train(config: Path, request: Payload) -> Payload:
    """Learn some epochs from the weights that came, and send the weights as they are then.

    They go with the number of frames they learnt from, with the figures of the weights that came
    and their own. A site that was killed meanwhile goes on where it stood when it is asked again.

    Raises:
        EchoFedError: CONFIG_INVALID, CHECKPOINT_CORRUPT for weights that do not fit,
            FRAMES_MISSING, FEATURES_NOT_FINITE, DISK_FULL, and what the door raises.
    """
    task = _expect_task(config, request)
    if not task.manifests:
        return task.reply({}, {})
    settings, egress = task.settings, task.desk.egress
    with numeric_threads(settings.threads):
        network, lesson = task.open()
        came = task.figures(network, lesson)
        checkpoint = Checkpoint(task.desk.store.root / "runs" / _run_name(task))
        learn(network, lesson, settings, checkpoint, lambda step: None)
        checkpoint.restore_last(network)
        learnt = task.figures(network, lesson)
    weights = pack_tensors({name: value.cpu() for name, value in network.state_dict().items()})
    said = {
        "num_frames": len(lesson.train),
        "came": egress.release_figures(came, task.manifests),
        "learnt": egress.release_figures(learnt, task.manifests),
    }
    blobs = {WEIGHTS: egress.release_update(weights, task.weights, task.manifests)}
    checkpoint.remove()
    return task.reply(said, blobs)


def evaluate(config: Path, request: Payload) -> Payload:
    """Send the validation figures of the weights that came."""
    task = _expect_task(config, request)
    if not task.manifests:
        return task.reply({}, {})
    with numeric_threads(task.settings.threads):
        came = task.figures(*task.open())
    return task.reply({"came": task.desk.egress.release_figures(came, task.manifests)}, {})


def _expect_task(config: Path, request: Payload) -> Task:
    desk = open_desk(config)
    hashes, said = expect_body(request, "datasets", "settings")
    if WEIGHTS not in request.blobs:
        raise EchoFedError(Code.WIRE_INVALID, "a request to learn has no weights", "")
    weights = request.blobs[WEIGHTS]
    settings = _settings(desk.settings.segmenter, said)
    manifests, refused = [], []
    for name, expected in sorted(hashes.items()):
        try:
            manifests.append(_permitted(desk, str(name), str(expected)))
        except EchoFedError as error:
            log.warning("not learnt from: %s", error)
            refused.append(refusal(error, dataset=str(name)))
    desk.received("segmenter", f"{settings.network} to average", sha256_hex(weights), len(weights))
    return Task(desk, settings, tuple(manifests), tuple(refused), weights)


def _permitted(desk: Desk, name: str, expected: str) -> DatasetManifest:
    manifest = desk.store.manifest(name)
    desk.egress.permit_segmenter(manifest)
    if manifest.content_hash() != expected:
        desk.egress.refuse(Code.EGRESS_DENIED, name, "segmenter_weights")
        raise EchoFedError(
            Code.EGRESS_DENIED,
            f"dataset {name} has changed since it was offered",
            "let the centre begin the averaging again",
        )
    return manifest


def _settings(own: SegmenterSettings, said: Mapping[str, Any]) -> SegmenterSettings:
    """The site's settings with what the centre decides; no round takes more than a training here.

    Raises:
        EchoFedError: WIRE_INVALID for settings that are not the centre's, CONFIG_INVALID.
    """
    if set(said) != _SENT:
        raise EchoFedError(
            Code.WIRE_INVALID,
            "a request to learn has other settings than it should",
            "both ends should run the same release",
        )
    fixed = {"schedule": "constant", "patience": said["epochs"], "start_from": ""}
    settings = build_settings(SegmenterSettings, {**dump_settings(own), **said, **fixed})
    for name in ("epochs", "image_size"):
        if getattr(settings, name) > getattr(own, name):
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"the centre asks for segmenter.{name}={getattr(settings, name)}",
                f"this site's own {getattr(own, name)} is the most; raise it to take part",
            )
    return settings


def _run_name(task: Task) -> str:
    parts = [hash_settings(task.settings), sha256_hex(task.weights)]
    parts += [manifest.content_hash() for manifest in task.manifests]
    return f"average-{sha256_hex(' '.join(parts).encode())[:16]}"
