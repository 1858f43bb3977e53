"""A phantom clip as the DICOM file that a scanner would export, with planted identity."""

import hashlib
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    ExplicitVRLittleEndian,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from shared.phantom.overlay import SCREENS, Box, strip_box, tissue_box
from shared.phantom.scanner import SCANNERS, PhantomClip, Pixels

# no person: drawn only to be found again by whoever checks that identity was removed
_FAMILIES = ("Planted", "Verdichio", "Okonkwell", "Lindqvar", "Petrosyne", "Marchetta", "Hofwindt")
_GIVENS = ("Ada", "Bruno", "Celia", "Dmitra", "Ewan", "Farah", "Goran", "Hedwig", "Ines", "Jorin")


@dataclass(frozen=True, slots=True)
class Person:
    """The planted identity of a phantom patient."""

    family: str
    given: str
    number: str
    born: str
    sex: str

    @property
    def banner(self) -> str:
        """What the scanner burns into the picture."""
        return f"{self.family.upper()}, {self.given}  {self.number}  {self.born}"


@dataclass(frozen=True, slots=True)
class StudyTags:
    """What one file's header says beside the picture.

    Attributes:
        study: text that names the study; the study's UID is derived from it.
        date: yyyymmdd.
        number: instance number within the study.
        is_colour: RGB instead of grey.
        is_compressed: RLE lossless instead of raw.
    """

    hospital: str
    study: str
    date: str
    number: int
    is_colour: bool = False
    is_compressed: bool = False


def draw_person(rng: np.random.Generator) -> Person:
    """Draw a name, a number and a birthday."""
    year, month, day = (int(rng.integers(*span)) for span in ((1931, 2003), (1, 13), (1, 29)))
    return Person(
        family=_FAMILIES[int(rng.integers(len(_FAMILIES)))],
        given=_GIVENS[int(rng.integers(len(_GIVENS)))],
        number=f"MRN{int(rng.integers(10**6, 10**7))}",
        born=f"{year}{month:02d}{day:02d}",
        sex="FM"[int(rng.integers(2))],
    )


def dicom_of(clip: PhantomClip, person: Person, tags: StudyTags) -> FileDataset:
    """Ultrasound multi-frame object with regions, frame time, patient and study tags."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(tags.study, "instance", str(tags.number))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("echofed", "phantom")
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    _add_identity(dataset, person, tags)
    _add_equipment(dataset, clip, tags)
    _add_pixels(dataset, clip, is_colour=tags.is_colour)
    dataset.SequenceOfUltrasoundRegions = _regions(clip)
    if tags.is_compressed:
        dataset.compress(RLELossless, generate_instance_uid=False)
    return dataset


def _add_identity(dataset: Dataset, person: Person, tags: StudyTags) -> None:
    name = f"{person.family}^{person.given}"
    dataset.PatientName = name
    dataset.PatientID = person.number
    dataset.PatientBirthDate = person.born
    dataset.PatientSex = person.sex
    dataset.OtherPatientNames = f"{person.family}-Alias^{person.given}"
    dataset.PatientComments = f"seen with {person.given} {person.family}'s spouse"
    dataset.StudyInstanceUID = _uid(tags.study)
    dataset.SeriesInstanceUID = _uid(tags.study, "series")
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID = _uid(tags.study, "instance", str(tags.number))
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = tags.date
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "101500"
    dataset.AccessionNumber = f"ACC{person.number[3:]}"
    dataset.ReferringPhysicianName = f"Dr^{person.family[::-1].title()}"
    dataset.OperatorsName = "Sono^Grapher"
    dataset.StudyID = person.number[-4:]
    dataset.StudyDescription = f"Echo of {person.family}"
    dataset.InstitutionName = f"{tags.hospital} Hospital"
    dataset.StationName = f"{tags.hospital}-ECHO"


def _add_equipment(dataset: Dataset, clip: PhantomClip, tags: StudyTags) -> None:
    dataset.Modality = "US"
    dataset.Manufacturer = "EchoFed phantom"
    dataset.ManufacturerModelName = clip.scanner
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = tags.number
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "TTE", "0001"]
    dataset.PatientOrientation = ""
    dataset.HeartRate = round(clip.heart.heart_rate_bpm)
    dataset.FrameTime = f"{clip.frame_time_ms:.3f}"
    dataset.FrameIncrementPointer = Tag("FrameTime")
    dataset.CineRate = round(1000 / clip.frame_time_ms)
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "YES"


def _add_pixels(dataset: Dataset, clip: PhantomClip, *, is_colour: bool) -> None:
    frames, rows, columns = clip.pixels_THW.shape
    dataset.NumberOfFrames = frames
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.SamplesPerPixel = 3 if is_colour else 1
    dataset.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    pixels = clip.pixels_THW
    if is_colour:
        dataset.PlanarConfiguration = 0
        pixels = _coloured(clip)
    raw = pixels.tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB"


def _coloured(clip: PhantomClip) -> Pixels:
    """Grey fan, tinted screen: (T, H, W, 3)."""
    tint = np.array(SCREENS[SCANNERS[clip.scanner].screen].tint, np.float32)
    colours = clip.pixels_THW[..., None] * tint
    colours[:, clip.sector.mask_HW] = clip.pixels_THW[:, clip.sector.mask_HW][..., None]
    rounded: Pixels = np.rint(colours).astype(np.uint8)
    return rounded


def _regions(clip: PhantomClip) -> list[Dataset]:
    """The 2-D tissue region with its scale, and the ECG strip."""
    size_HW = (clip.pixels_THW.shape[1], clip.pixels_THW.shape[2])
    tissue = _region(tissue_box(size_HW), spatial=1, kind=0x1, units=(3, 3))
    tissue.PhysicalDeltaX = clip.mm_per_pixel[1] / 10.0
    tissue.PhysicalDeltaY = clip.mm_per_pixel[0] / 10.0
    tissue.ReferencePixelX0 = round(clip.fan.apex_rc[1])
    tissue.ReferencePixelY0 = round(clip.fan.apex_rc[0]) - tissue.RegionLocationMinY0
    tissue.ReferencePixelPhysicalValueX = 0.0
    tissue.ReferencePixelPhysicalValueY = 0.0
    ecg = _region(strip_box(size_HW), spatial=4, kind=0xA, units=(4, 0))
    ecg.PhysicalDeltaX, ecg.PhysicalDeltaY = 3.0 / size_HW[1], 1.0
    return [tissue, ecg]


def _region(box: Box, *, spatial: int, kind: int, units: tuple[int, int]) -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat = spatial
    region.RegionDataType = kind
    region.RegionFlags = 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = box[0], box[1]
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = box[2], box[3]
    region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = units
    return region


def _uid(*parts: str) -> str:
    """A UID that depends on the text alone."""
    return str(generate_uid(entropy_srcs=[hashlib.sha256("|".join(parts).encode()).hexdigest()]))
