"""The manifest of a synthetic dataset, told in the ledger before it stands."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from shared.echo.manifest import ClipRecord, DatasetManifest
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from site_client.datasets.splits import draw_splits
from site_client.journal import JournalEntry
from site_client.store import SiteStore
from site_client.synthesize.maps import MapSource
from site_client.synthesize.request import SynthesisReport, SynthesisRequest

KIND = "synthesized"


def finish(
    store: SiteStore,
    request: SynthesisRequest,
    maps: MapSource,
    entries: Collection[JournalEntry],
    *,
    num_known: int,
    now: datetime,
) -> SynthesisReport:
    """Write what became of all places as a dataset, if anything did.

    Raises:
        EchoFedError: NOTHING_INGESTED, DISK_FULL.
    """
    records = [entry.record for entry in entries if entry.record is not None]
    refused = dict(sorted(Counter(one.code for one in entries if one.record is None).items()))
    if not records:
        listed = ", ".join(f"{code}: {count}" for code, count in refused.items())
        raise EchoFedError(
            Code.NOTHING_INGESTED,
            f"of {request.num} images none may be kept ({listed})",
            "take other maps or another synthesizer; the README's error table explains the codes",
        )
    stamp = records[0].synthesis
    assert stamp is not None
    manifest = DatasetManifest(
        id=request.dataset, site=request.site, origin="synthetic", source=stamp.synthesizer,
        labels={request.view: (request.view,)}, clips=_with_splits(store, request, maps, records),
        kept_pixels="sector", created=now.isoformat(timespec="seconds"),
    )  # fmt: skip
    model = ModelName(stamp.synthesizer, stamp.weights_sha256)
    changed = _is_new(store, manifest)
    report = SynthesisReport(manifest, request, model, maps.name, refused, num_known, changed)
    if changed:
        Ledger(store.ledger_path).append(KIND, report.document(), actor=request.site)
        store.save_manifest(manifest)
    store.remove_stray_clips(manifest)
    return report


def _with_splits(
    store: SiteStore, request: SynthesisRequest, maps: MapSource, records: Sequence[ClipRecord]
) -> tuple[ClipRecord, ...]:
    """Patients keep the split that they have, here or where their maps are from."""
    held = store.manifest(request.dataset).clips if request.dataset in store.datasets() else ()
    fixed = {**{clip.patient: clip.split for clip in held}, **maps.fixed}
    splits = draw_splits(
        (record.patient for record in records),
        fixed,
        val_fraction=request.val_fraction,
        test_fraction=0.0,
    )
    done = (replace(record, split=splits[record.patient]) for record in records)
    return tuple(sorted(done, key=lambda record: record.key))


def _is_new(store: SiteStore, manifest: DatasetManifest) -> bool:
    if manifest.id not in store.datasets():
        return True
    return replace(store.manifest(manifest.id), created=manifest.created) != manifest
