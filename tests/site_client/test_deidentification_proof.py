"""The proof: a thousand planted names, numbers and dates go in, and none of them is anywhere after.

They are planted in headers, private tags, nested items, preamble, overlay planes, file names, JPEG
comments, in the banner's pixels and inside the sector, over all scanners and transfer syntaxes.
"""

import io
import json
import logging
import re
import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from shared.errors import Code, EchoFedError
from shared.phantom.anatomy import draw_heart
from shared.phantom.overlay import SCREENS, draw_variant, tissue_box, with_screen
from shared.phantom.planes import VIEWS
from shared.phantom.scanner import SCANNERS, render_clip
from shared.phantom.study import Person, StudyTags, dicom_of
from shared.seeding import numpy_generator
from shared.settings import build_settings
from shared.testing.burn import Burnt, burn_word
from shared.testing.leaks import find_words
from site_client.deidentify import Pseudonyms
from site_client.evaluate import open_expert
from site_client.extract import extract
from site_client.ingest import IngestReport, IngestRequest, ingest
from site_client.settings import ExpertSettings, ExtractSettings, IngestSettings
from site_client.store import SiteStore
from site_client.training.expert import train_expert

SIZE = (96, 128)
NUM_FILES = 42  # every scanner with every syntax, and words in a third of the sectors
NOW = datetime(2026, 1, 1, tzinfo=UTC)
# every one that is uncompressed or that the installed codecs can write, and baseline JPEG
SYNTAXES = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian, RLELossless, JPEG2000Lossless, JPEGBaseline8Bit,
)  # fmt: skip
LETTERS = "bcdfghjklmnprstvwz"


class Planter:
    """Draws strings that no other file has, and remembers them."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self.words: list[str] = []

    def name(self) -> str:
        letters = self._generator.integers(len(LETTERS), size=9)
        return self._keep("".join(LETTERS[place] for place in letters).title())

    def number(self) -> str:
        return self._keep(str(self._generator.integers(10**9, 10**10)))

    def date(self) -> str:
        while True:
            year, month, day = (
                int(self._generator.integers(*span)) for span in ((1901, 2020), (1, 13), (1, 29))
            )
            if (text := f"{year}{month:02d}{day:02d}") not in self.words:
                return self._keep(text)

    def _keep(self, text: str) -> str:
        self.words.append(text)
        return text


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """A file, the word in its sector if there is one, and the same picture without it."""

    path: Path
    data: bytes
    burnt: Burnt | None
    plain_THW: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    folder: Path
    labels: Path
    files: list[Planted]
    words: list[str]


def write_archive(root: Path, num_files: int) -> Archive:
    planter = Planter(numpy_generator(91, "proof words"))
    rows, files = ["file,label"], []
    for number in range(num_files):
        view = VIEWS[number // len(SCANNERS) % 2]
        planted = write_file(root / "in", planter, number, view)
        rows.append(f"{planted.path.relative_to(root / 'in').as_posix()},{view}")
        files.append(planted)
    (root / "labels.csv").write_text("\n".join(rows))
    return Archive(root / "in", root / "labels.csv", files, planter.words)


def write_file(folder: Path, planter: Planter, number: int, view: str) -> Planted:
    scanner = SCANNERS[list(SCANNERS)[number % len(SCANNERS)]]
    syntax = SYNTAXES[number % len(SYNTAXES)]
    generator = numpy_generator(91, "proof", number)
    clip = render_clip(
        draw_heart(generator), view, scanner, num_frames=2, size_HW=SIZE, rng=generator
    )
    person = Person(planter.name(), planter.name(), planter.number(), planter.date(), "F")
    variant = draw_variant(view, 0.0, generator)
    clip = with_screen(clip, SCREENS[scanner.screen], variant=variant, banner=person.banner)
    burnt = burn_word(clip.pixels_THW, clip.sector.mask_HW, generator) if number % 3 == 0 else None
    shown = replace(clip, pixels_THW=burnt.pixels_THW) if burnt else clip
    tags = StudyTags(planter.name(), planter.number(), planter.date(), number)
    dataset = dicom_of(shown, person, tags)
    add_hidden_places(dataset, planter)
    name = planter.name()
    if syntax == JPEGBaseline8Bit:
        make_jpeg(dataset, shown.pixels_THW, comment=planter.name())
    elif syntax.is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
    path = folder / f"{name} {planter.name()}" / f"{planter.number()}_{planter.date()}.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(written(dataset, syntax, preamble=name))
    return Planted(path, path.read_bytes(), burnt, clip.pixels_THW)


def add_hidden_places(dataset: Dataset, planter: Planter) -> None:
    """Private tags, nested items, overlay planes, and elements that carry names too."""
    dataset.PatientAddress, dataset.InstitutionAddress = planter.name(), planter.name()
    dataset.PerformingPhysicianName = f"{planter.name()}^{planter.name()}"
    dataset.AcquisitionDateTime = planter.date() + "101112"
    item, inner = Dataset(), Dataset()
    item.PatientID, inner.RequestingPhysician = planter.number(), planter.name()
    item.RequestAttributesSequence = [inner]
    dataset.OtherPatientIDsSequence = [item]
    block = dataset.private_block(0x0019, planter.name(), create=True)
    block.add_new(0x10, "LO", planter.name())
    block.add_new(0x11, "DA", planter.date())
    block.add_new(0x12, "OB", planter.name().encode() + b"\0")
    plane = Image.new("1", (SIZE[1], SIZE[0]))
    ImageDraw.Draw(plane).text((SIZE[1] // 3, SIZE[0] // 2), planter.name(), fill=1)
    for element, vr, value in (
        (0x0010, "US", SIZE[0]), (0x0011, "US", SIZE[1]), (0x0022, "LO", planter.name()),
        (0x0040, "CS", "G"), (0x0050, "SS", [1, 1]), (0x0100, "US", 1), (0x0102, "US", 0),
        (0x1500, "LO", planter.name()), (0x3000, "OB", plane.tobytes() + planter.name().encode()),
    ):  # fmt: skip
        dataset.add_new((0x6000, element), vr, value)


def make_jpeg(dataset: FileDataset, pixels_THW: NDArray[np.uint8], *, comment: str) -> None:
    frames = []
    for pixels_HW in pixels_THW:
        buffer = io.BytesIO()
        Image.fromarray(pixels_HW).save(buffer, "JPEG", quality=95, comment=comment.encode())
        frames.append(buffer.getvalue())
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def written(dataset: FileDataset, syntax: UID, *, preamble: str) -> bytes:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.preamble = preamble.encode().ljust(128, b"\0")
    buffer = io.BytesIO()
    if syntax == ImplicitVRLittleEndian:
        dataset["PixelData"].VR = "OW"
    dcmwrite(
        buffer,
        dataset,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    return buffer.getvalue()


def run(archive: Archive, store: SiteStore, *, text: str = "quarantine") -> IngestReport:
    request = IngestRequest("demo", "north", "real", labels=archive.labels)
    settings = build_settings(IngestSettings, {"text": text})
    return ingest(archive.folder, store, request, settings, now=NOW)


def stored_bytes(root: Path) -> bytes:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    names = "\n".join(path.relative_to(root).as_posix() for path in files).encode()
    return names + b"\n".join(path.read_bytes() for path in files)


def text_in(body: bytes) -> bytes:
    """All runs of five or more printable characters, one or two bytes each; pixels have few."""
    runs = [
        re.findall(pattern, body)
        for pattern in (rb"[ -~]{5,}", rb"(?:[ -~]\0){5,}", rb"(?:\0[ -~]){5,}")
    ]
    return b"\n".join(run for found in runs for run in found)


def key_of(store: SiteStore, planted: Planted) -> str:
    return Pseudonyms(store.key()).clip(planted.data, "sector")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return write_archive(tmp_path_factory.mktemp("archive"), NUM_FILES)


@dataclass(frozen=True, slots=True, eq=False)
class Ingested:
    store: SiteStore
    report: IngestReport
    logged: str


@pytest.fixture(scope="module")
def ingested(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """A site after ingest, with everything that was logged on the way."""
    store = SiteStore(tmp_path_factory.mktemp("proof") / "site")
    store.create_key()
    stream = io.StringIO()
    handler, root = logging.StreamHandler(stream), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        report = run(archive, store)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return Ingested(store, report, stream.getvalue())


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    store = SiteStore(tmp_path / "site")
    store.create_key()
    return store


def test_a_thousand_strings_are_planted_and_can_be_found_before(archive: Archive) -> None:
    assert len(set(archive.words)) >= 1000
    names = "\n".join(str(file.path) for file in archive.files).encode()
    found = find_words(names + text_in(b"".join(f.data for f in archive.files)), archive.words)
    assert len(found) > 0.75 * len(archive.words)  # the rest is deflated, or only in pixels


def test_none_of_a_thousand_names_numbers_and_dates_survives(
    archive: Archive, ingested: Ingested
) -> None:
    report = ingested.report
    told = json.dumps([report.document(), *(str(drop) for drop in report.dropped)])
    after = text_in(stored_bytes(ingested.store.root)) + (told + ingested.logged).encode()
    assert find_words(after, archive.words) == set()
    assert not report.document()["dropped"].keys() - {"TEXT_FOUND"}


def test_only_the_fan_is_stored_and_words_inside_it_are_held_back(
    archive: Archive, ingested: Ingested
) -> None:
    store, manifest = ingested.store, ingested.report.manifest
    kept = {record.key: record for record in manifest.clips}
    for record in manifest.clips:
        clip = store.clip("demo", record)
        assert clip.mask_HW is not None
        assert not clip.pixels_THW[:, ~clip.mask_HW].any()
        assert not clip.pixels_THW[:, : tissue_box(SIZE)[1]].any()
    has_word = {key_of(store, file): file.burnt is not None for file in archive.files}
    words = [key for key, is_there in has_word.items() if is_there]
    assert len(words) >= NUM_FILES // 3 - 1
    assert sum(key not in kept for key in words) >= 0.99 * len(words)
    plain = has_word.keys() - set(words)
    assert len(plain) > 25
    assert sum(key not in kept for key in plain) <= 1  # screen letters in a sector found too wide


def test_an_export_of_features_names_nobody(archive: Archive, ingested: Ingested) -> None:
    store, manifest = ingested.store, ingested.report.manifest
    small = {"backbone": "test_resnet", "image_size": 32, "epochs": 1, "threads": 1}
    card = train_expert(
        store, ["demo"], build_settings(ExpertSettings, small), site="north", now=NOW,
        report=lambda step: None,
    )  # fmt: skip
    export = extract(
        store, manifest, open_expert(store, card.id), ExtractSettings(passes=1, threads=1),
        policy_version=1, created="2026-01-01",
    )  # fmt: skip
    after = text_in(export.to_bytes() + stored_bytes(store.root))
    assert find_words(after, archive.words) == set()


def test_blanked_clips_show_no_word(archive: Archive, store: SiteStore) -> None:
    manifest = run(archive, store, text="blank").manifest
    records = {record.key: record for record in manifest.clips}
    erased = []
    for file in archive.files:
        record = records.get(key_of(store, file))
        if file.burnt is None or record is None:
            continue
        ink = file.burnt.pixels_THW[0].astype(int) - file.plain_THW[0] > 40
        erased.append(float((store.clip("demo", record).pixels_THW[0][ink] == 0).mean()))
    assert len(erased) >= NUM_FILES // 3 - 2
    assert min(erased) > 0.8
    assert np.mean(erased) > 0.98


def test_errors_name_nobody(tmp_path: Path, archive: Archive, store: SiteStore) -> None:
    folder = tmp_path / archive.words[0]
    folder.mkdir()
    for number, file in enumerate(archive.files[:8]):
        (folder / f"{archive.words[number]}.dcm").write_bytes(file.data[: 400 + 300 * number])
    request = IngestRequest("demo", "north", "real")
    with pytest.raises(EchoFedError) as caught:
        ingest(folder, store, request, IngestSettings(), now=NOW)
    assert caught.value.code is Code.NOTHING_INGESTED
    told = str(caught.value) + "".join(traceback.format_exception(caught.value))
    assert find_words(text_in(told.encode() + stored_bytes(store.root)), archive.words) == set()
