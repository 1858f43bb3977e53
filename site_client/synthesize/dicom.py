"""Drawn images as DICOM objects that say of themselves that nobody was imaged.

Ultrasound Image, PS3.3 A.6. They name no patient: what stands in the patient's place is the word
SYNTHETIC and a number of the dataset's own, so that images of one heart stay together. The site's
pseudonym of the patient whose heart it is would lead from these files, which travel, to a patient.
"""

import io
from importlib.metadata import version
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from shared.echo.frame import MillimetresPerPixel
from shared.echo.manifest import ClipRecord, DatasetManifest
from shared.echo.synthesis import Synthesis
from shared.files import sha256_hex, write_bytes
from site_client.clip_file import StoredClip
from site_client.store import SiteStore

PATIENT_NAME = "SYNTHETIC"
_MAKER = "EchoFed"
_ID_LETTERS = 16
_2D, _TISSUE, _CENTIMETRES = 1, 1, 3  # PS3.3 C.8.5.5.1.1, .2 and .15
_PROCESSING = ("109102", "DCM", "Processing Equipment")  # PS3.16 CID 7005
_B_MODE = "0001"  # PS3.3 C.8.5.6.1.1, value 4


def save_dicom(store: SiteStore, manifest: DatasetManifest, folder: Path) -> list[str]:
    """Write each image of a synthetic dataset as a file of its own, named by its clip's key.

    Returns:
        Names of the files; those that were there are written anew, with the same content.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT, DISK_FULL.
    """
    names = []
    for number, record in enumerate(manifest.clips, start=1):
        dataset = dicom_of(store.clip(manifest.id, record), record, manifest, number=number)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        names.append(f"{record.key}.dcm")
        write_bytes(folder / names[-1], buffer.getvalue())
    return names


def dicom_of(
    clip: StoredClip, record: ClipRecord, manifest: DatasetManifest, *, number: int
) -> FileDataset:
    """The object of one image.

    Args:
        clip: of one frame, with its stamp.
        record: of the clip.
        manifest: of its dataset.
        number: of the image in its series, from 1.
    """
    assert clip.synthesis is not None
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(record.sha256, record.key, "image")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("echofed", "synthesis")
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = UltrasoundImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _add_nobody(dataset, record, manifest, number=number)
    _add_origin(dataset, clip.synthesis)
    _add_pixels(dataset, clip)
    if clip.mm_per_pixel is not None:
        dataset.SequenceOfUltrasoundRegions = [_region(clip, clip.mm_per_pixel)]
    return dataset


def _add_nobody(
    dataset: Dataset, record: ClipRecord, manifest: DatasetManifest, *, number: int
) -> None:
    """What stands where a patient, a study and a hospital would."""
    dataset.PatientName = PATIENT_NAME
    number_of_heart = sha256_hex(f"{manifest.id} {record.patient}".encode())
    dataset.PatientID = f"{PATIENT_NAME}-{number_of_heart[:_ID_LETTERS]}"
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "no person was imaged"
    dataset.StudyInstanceUID = _uid(manifest.id, record.patient, "study")
    dataset.SeriesInstanceUID = _uid(manifest.id, record.patient, "series")
    dataset.StudyDate = dataset.StudyTime = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "synthetic, not of a person"
    dataset.Modality = "US"
    dataset.SeriesNumber, dataset.InstanceNumber = 1, number
    dataset.SeriesDescription = f"synthetic {record.label}"
    dataset.PatientOrientation = ""
    dataset.BodyPartExamined = "HEART"  # which has no side


def _add_origin(dataset: Dataset, stamp: Synthesis) -> None:
    """That it was drawn, by what, and from what."""
    dataset.SyntheticData = "YES"
    dataset.ImageType = ["DERIVED", "PRIMARY", "TTE", _B_MODE]
    dataset.DerivationDescription = (
        f"drawn from label map sha256 {stamp.map_sha256} with seed {stamp.seed}"
    )
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.Manufacturer = _MAKER
    dataset.ManufacturerModelName = "EchoFed synthesis"
    dataset.SoftwareVersions = f"echofed {version('echofed')}"
    value, scheme, meaning = _PROCESSING
    purpose, maker = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = value, scheme
    purpose.CodeMeaning = meaning
    maker.PurposeOfReferenceCodeSequence = [purpose]
    maker.Manufacturer = _MAKER
    maker.ManufacturerModelName = stamp.synthesizer[:64]  # VR LO, PS3.5 6.2
    maker.DeviceSerialNumber = stamp.weights_sha256
    maker.ContributionDescription = f"synthesizer with weights sha256 {stamp.weights_sha256}"
    dataset.ContributingEquipmentSequence = [maker]


def _add_pixels(dataset: Dataset, clip: StoredClip) -> None:
    pixels_HW = clip.pixels_THW[0]
    dataset.Rows, dataset.Columns = pixels_HW.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    raw = pixels_HW.tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB"


def _region(clip: StoredClip, mm_per_pixel: MillimetresPerPixel) -> Dataset:
    """The whole picture with its scale, PS3.3 C.8.5.5."""
    region, (height, width) = Dataset(), clip.pixels_THW.shape[1:]
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = _2D, _TISSUE, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = width - 1, height - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = _CENTIMETRES
    region.PhysicalDeltaX, region.PhysicalDeltaY = mm_per_pixel[1] / 10, mm_per_pixel[0] / 10
    return region


def _uid(*parts: str) -> str:
    """A UID that depends on the parts alone."""
    return str(generate_uid(entropy_srcs=list(parts)))
