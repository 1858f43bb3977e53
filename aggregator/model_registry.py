"""Registered fusions: versions, the aliases ``candidate`` and ``serving``, promotion and rollback.

The only file that imports MLflow, and only when it is used, for that takes seconds. A fusion is
logged as its card in JSON and its weights in safetensors: no pickle, no model flavour, no server
needed. MLflow keeps no history of aliases; ours is a tag of the model, and the ledger has the rest.
"""

import json
import logging
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shared.echo.expert import CARD_FILE, FusionCard, load_fusion, save_checkpoint
from shared.echo.model_card import ModelCard, ModelKind
from shared.echo.schema import to_document
from shared.errors import Code, EchoFedError
from shared.files import write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)
Alias = Literal["candidate", "serving"]
_FOLDER = "fusion"  # of a run's artifacts, whatever it is of
_HISTORY = "serving_history"
_KEPT = 20  # promotions remembered: a tag holds 5,000 characters


@dataclass(frozen=True, slots=True)
class Promotion:
    """One move of ``serving``: to which version, by whom, why, when."""

    version: str
    fusion: str
    actor: str
    reason: str
    time: str


@dataclass(frozen=True, slots=True)
class RegisteredFusion:
    """A version in the registry and the aliases that point at it."""

    version: str
    fusion: str
    variant: str
    aliases: tuple[str, ...]


class ModelRegistry:
    """The registered fusions of one federation."""

    def __init__(self, tracking_uri: str, artifacts: Path, *, name: str = "echofed") -> None:
        """Keep where to look; nothing is opened yet.

        Args:
            tracking_uri: MLflow tracking URI, such as ``sqlite:///mlflow.sqlite``.
            artifacts: folder of cards and weights, for an experiment that does not exist yet.
            name: of the experiment and of the registered model.
        """
        self._tracking_uri = tracking_uri
        self._artifacts = artifacts
        self._name = name
        self._opened: MlflowClient | None = None

    def log_fusion(
        self, card: FusionCard, weights: bytes, *, metrics: Mapping[str, float], origin: str
    ) -> str:
        """Register a fusion, point ``candidate`` at it and return its version.

        A fusion that is already registered keeps its version: a killed increment may come twice.

        Args:
            card: its card; settings become parameters of the run.
            weights: safetensors that match the card.
            metrics: figures by name, beside those of the card.
            origin: on what rows it was trained and the figures were taken.
        """
        client = self._client()
        version = next((one.version for one in self.versions() if one.fusion == card.id), None)
        if version is None:
            tags = {
                "fusion": card.id,
                "variant": card.variant,
                "parent": card.parent,
                "origin": origin,
                "experts": ",".join(block.expert for block in card.blocks),
                "settings_hash": card.settings_hash,
            }
            with tempfile.TemporaryDirectory() as folder:
                save_checkpoint(Path(folder), card, weights)
                run = self._log_run(card, tags, {**card.metrics, **metrics}, Path(folder))
            made = client.create_model_version(
                self._name,
                source=f"{run.info.artifact_uri}/{_FOLDER}",
                run_id=run.info.run_id,
                tags={"fusion": card.id, "variant": card.variant},
            )
            version = str(made.version)
        client.set_registered_model_alias(self._name, "candidate", version)
        return version

    def log_model(self, card: ModelCard) -> None:
        """Log the card, settings and figures of a segmenter or a synthesizer; once only.

        Its weights lie in the centre's folder alone, and which alias stands for it says the ledger.
        """
        if self._runs(card.kind, card.id):
            return
        tags = {
            card.kind: card.id,
            "parent": card.parent,
            "origin": card.origin,
            "site": card.site,
            "settings_hash": card.settings_hash,
        }
        if card.kind == "segmenter":
            tags["answers"] = card.answers
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / CARD_FILE, to_document(card))
            self._log_run(card, tags, card.metrics, Path(folder))

    def remove_models(self, kind: ModelKind, models: Collection[str]) -> None:
        """Delete the runs of models of a kind with all figures; what is gone is passed over."""
        for model in sorted(models):
            for run in self._runs(kind, model):
                self._erase_run(run.info)

    def promote(self, version: str, *, actor: str, reason: str, now: datetime) -> Promotion:
        """Point ``serving`` at a version; returns what is noted of it.

        Raises:
            EchoFedError: MODEL_UNKNOWN.
        """
        history = self.history()
        promotion = self._serve(version, actor=actor, reason=reason, now=now)
        if not history or history[-1].version != version:
            self._remember((*history, promotion))
        return promotion

    def rollback(self, *, actor: str, reason: str, now: datetime) -> Promotion:
        """Point ``serving`` at the version that served before the present one.

        Raises:
            EchoFedError: MODEL_UNKNOWN where none did.
        """
        history = self.history()
        if len(history) < 2:
            raise EchoFedError(
                Code.MODEL_UNKNOWN,
                "no other version served before this one",
                "promote a version by its number; status lists them",
            )
        promotion = self._serve(history[-2].version, actor=actor, reason=reason, now=now)
        self._remember((*history[:-2], promotion))
        return promotion

    def remove(self, fusions: Collection[str]) -> None:
        """Delete the versions of these fusions with their aliases, and their runs with all figures.

        What is gone already is passed over. Where the serving version goes, nothing serves.
        """
        client = self._client()
        self._remember(_left_serving(self.history(), fusions))
        for one in self.versions():
            if one.fusion in fusions:
                client.delete_model_version(self._name, one.version)
        for fusion in sorted(fusions):
            for run in self._runs("fusion", fusion):
                self._erase_run(run.info)

    def current(self, alias: Alias) -> tuple[FusionCard, bytes]:
        """Card and weights of the version that an alias points at.

        Raises:
            EchoFedError: MODEL_UNKNOWN where it points nowhere, CHECKPOINT_CORRUPT where altered.
        """
        version = self.version_of(alias)
        if version is None:
            raise EchoFedError(
                Code.MODEL_UNKNOWN,
                f"no registered fusion is {alias}",
                "run promote" if alias == "serving" else "run increment or fuse",
            )
        return self.load(version)

    def load(self, version: str) -> tuple[FusionCard, bytes]:
        """Card and weights of a version.

        Raises:
            EchoFedError: MODEL_UNKNOWN, CHECKPOINT_CORRUPT.
        """
        run_id = self._model_version(version).run_id
        with tempfile.TemporaryDirectory() as folder:
            found = self._client().download_artifacts(run_id, _FOLDER, folder)
            return load_fusion(Path(found))

    def version_of(self, alias: Alias) -> str | None:
        """The version that an alias points at, None where it points nowhere."""
        return next((one.version for one in self.versions() if alias in one.aliases), None)

    def versions(self) -> tuple[RegisteredFusion, ...]:
        """All registered versions, the oldest first."""
        client = self._client()
        aliases = client.get_registered_model(self._name).aliases
        found = client.search_model_versions(f"name='{self._name}'")
        return tuple(
            RegisteredFusion(
                version=str(one.version),
                fusion=one.tags["fusion"],
                variant=one.tags["variant"],
                aliases=tuple(sorted(a for a, v in aliases.items() if str(v) == str(one.version))),
            )
            for one in sorted(found, key=lambda one: int(one.version))
        )

    def history(self) -> tuple[Promotion, ...]:
        """The promotions that led to the serving version, the last one last."""
        tags = self._client().get_registered_model(self._name).tags
        return tuple(Promotion(**entry) for entry in json.loads(tags.get(_HISTORY, "[]")))

    def _serve(self, version: str, *, actor: str, reason: str, now: datetime) -> Promotion:
        fusion = str(self._model_version(version).tags["fusion"])
        self._client().set_registered_model_alias(self._name, "serving", version)
        time = now.isoformat(timespec="seconds")
        return Promotion(str(version), fusion, actor, reason[:100], time)

    def _remember(self, history: Sequence[Promotion]) -> None:
        entries = [asdict(promotion) for promotion in history[-_KEPT:]]
        self._client().set_registered_model_tag(self._name, _HISTORY, json.dumps(entries))

    def _runs(self, tag: str, name: str) -> Sequence[Any]:
        """Runs of a model, deleted ones too."""
        client = self._client()
        from mlflow.entities import ViewType

        experiment = client.get_experiment_by_name(self._name)
        query = f"tags.{tag} = '{name}'"
        found: Sequence[Any] = client.search_runs(
            [experiment.experiment_id], query, run_view_type=ViewType.ALL
        )
        return found

    def _log_run(
        self,
        card: FusionCard | ModelCard,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        files: Path,
    ) -> Any:
        client = self._client()
        experiment = client.get_experiment_by_name(self._name)
        run = client.create_run(experiment.experiment_id, tags=tags, run_name=card.id)
        for name, value in sorted(card.settings.items()):
            client.log_param(run.info.run_id, name, value)
        for name, value in sorted(metrics.items()):
            client.log_metric(run.info.run_id, name, value)
        client.log_artifacts(run.info.run_id, str(files), _FOLDER)
        client.set_terminated(run.info.run_id)
        return run

    def _erase_run(self, run: Any) -> None:
        """Artifacts, then figures; a tracking server keeps deleted figures until ``mlflow gc``."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        client = self._client()
        get_artifact_repository(run.artifact_uri).delete_artifacts()
        if run.lifecycle_stage == "active":
            client.delete_run(run.run_id)
        # what mlflow gc calls for a database; MLflow has no public call for it
        erase = getattr(client._tracking_client.store, "_hard_delete_run", None)
        if erase is None:
            log.warning("run mlflow gc at the tracking server to erase run %s", run.run_id)
        else:
            erase(run.run_id)

    def _model_version(self, version: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client().get_model_version(self._name, str(version))
        except MlflowException as error:
            known = ", ".join(one.version for one in self.versions()) or "none"
            raise EchoFedError(
                Code.MODEL_UNKNOWN,
                f"no registered fusion has version {version!r}",
                f"known versions: {known}",
            ) from error

    def _client(self) -> "MlflowClient":
        """The client, opened on first use with experiment and model made where they are new."""
        if self._opened is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            os.environ.setdefault("DO_NOT_TRACK", "true")
            for chatty in ("alembic", "mlflow"):
                logging.getLogger(chatty).setLevel(logging.WARNING)
            from mlflow import MlflowClient

            client = MlflowClient(self._tracking_uri, self._tracking_uri)
            if client.get_experiment_by_name(self._name) is None:
                self._artifacts.mkdir(parents=True, exist_ok=True)
                client.create_experiment(self._name, self._artifacts.resolve().as_uri())
            if not client.search_registered_models(f"name='{self._name}'"):
                client.create_registered_model(self._name)
            self._opened = client
        return self._opened


def _left_serving(history: Sequence[Promotion], gone: Collection[str]) -> list[Promotion]:
    """What the ledger finds left, see ``aggregator.serving.left_serving``, as promotions."""
    if not history or history[-1].fusion in gone:
        return []
    kept: list[Promotion] = []
    for promotion in history:
        if promotion.fusion not in gone and promotion.version not in [p.version for p in kept[-1:]]:
            kept.append(promotion)
    return kept
