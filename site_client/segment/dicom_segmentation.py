"""Masks as a DICOM Segmentation object of the file that was segmented (PS3.3 A.51).

An ultrasound cine has no place in space: no frame of reference, and its scale in the region
calibration only. Then a segmentation has none either; each of its frames lies pixel on pixel on the
frame of the source that its Derivation Image names, with no pixel measures and no planes (PS3.3
A.51.5.1). highdicom's own constructor takes only single frames without a frame of reference
(https://github.com/ImagingDataCommons/highdicom/issues/284), so the multi-frame parts are built
here, with the place in time as second dimension.

The object names the patient, as DICOM demands: it goes to the hospital's archive and nowhere else.
"""

from datetime import datetime

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.base import SOPClass
from highdicom.color import CIELabColor
from highdicom.seg import SegmentDescription
from pydicom.dataset import Dataset
from pydicom.pixels import pack_bits
from pydicom.sr.coding import Code as Concept
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from shared.errors import Code, EchoFedError
from site_client.segment.cine import ModelName, SegmentedCine
from site_client.segment.codes import (
    ANATOMICAL_STRUCTURE,
    ARTIFICIAL_INTELLIGENCE,
    SEGMENT_LABELS,
    SEGMENTATION,
    SOURCE_IMAGE,
    STRUCTURES,
)
from site_client.segment.dicom_header import (
    algorithm_name,
    building_door,
    describe_maker,
    frame_numbers,
    header_of,
    new_uid,
)
from site_client.segment.style import STRUCTURE_COLOURS

_SERIES = 900
_LOSSY = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")


def build_segmentation(segmented: SegmentedCine, source: Dataset, *, made: datetime) -> Dataset:
    """A BINARY Segmentation: one frame for each structure and frame of the source that shows it.

    Args:
        segmented: its first model is named as the one that gave the masks.
        source: the original file; its patient and study become those of the object.
        made: when it was segmented, in local time.

    Raises:
        EchoFedError: NOTHING_TO_DO where no mask shows a structure; SHAPE_MISMATCH,
            DATA_UNREADABLE for a source that does not fit.
    """
    header = header_of(source, segmented)
    shown = [name for name in STRUCTURES if _frames_with(segmented, name)]
    if not shown:
        raise EchoFedError(
            Code.NOTHING_TO_DO,
            "no mask shows a structure, so there is no segmentation object",
            "segment with a model that answers masks, or leave seg out",
        )
    with building_door():
        dataset = _empty_object(header, segmented, made=made)
        _describe_image(dataset, header, view=segmented.view)
    dataset.SegmentSequence = [
        _segment(number, name, segmented.models[0]) for number, name in enumerate(shown, start=1)
    ]
    organization = new_uid(header, made, "dimensions")
    _add_frames(dataset, segmented, shown, header, organization=organization)
    _add_references(dataset, header)
    return dataset


def _empty_object(header: Dataset, segmented: SegmentedCine, *, made: datetime) -> Dataset:
    """Patient, study, series and equipment."""
    dataset = SOPClass(
        study_instance_uid=header.StudyInstanceUID,
        series_instance_uid=new_uid(header, made, "segmentation series"),
        series_number=_SERIES,
        sop_instance_uid=new_uid(header, made, "segmentation"),
        sop_class_uid=SegmentationStorage,
        instance_number=1,
        modality="SEG",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        patient_id=header.PatientID,
        patient_name=header.PatientName,
        patient_birth_date=header.PatientBirthDate or None,
        patient_sex=header.PatientSex,
        accession_number=header.AccessionNumber,
        study_id=header.StudyID,
        study_date=header.StudyDate or None,
        study_time=header.StudyTime or None,
        referring_physician_name=header.ReferringPhysicianName,
        series_description="Segmentation of the heart",
        content_date=made.date(),
        content_time=made.time(),
        specific_character_set=header.get("SpecificCharacterSet"),
        **describe_maker(segmented.models),
    )
    dataset.copy_patient_and_study_information(header)
    return dataset


def _describe_image(dataset: Dataset, header: Dataset, *, view: str) -> None:
    """Size, bits and provenance of all frames (PS3.3 C.7.6.1, C.7.6.3, C.8.20.2)."""
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.PatientOrientation = header.get("PatientOrientation") or ""
    dataset.ContentLabel = "HEART"
    dataset.ContentDescription = f"{view}, found by software"
    dataset.ContentCreatorName = ""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = header.Rows, header.Columns
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = header.get("LossyImageCompression") or "00"
    for keyword in _LOSSY if dataset.LossyImageCompression == "01" else ():
        if header.get(keyword):
            setattr(dataset, keyword, header[keyword].value)
    dataset.SegmentationType, dataset.SegmentsOverlap = "BINARY", "NO"


def _segment(number: int, name: str, model: ModelName) -> SegmentDescription:
    algorithm = algorithm_name(model)
    colour = CIELabColor.from_rgb(*STRUCTURE_COLOURS[name])
    return SegmentDescription(
        segment_number=number,
        segment_label=SEGMENT_LABELS.get(name, STRUCTURES[name].meaning),
        segmented_property_category=ANATOMICAL_STRUCTURE,
        segmented_property_type=STRUCTURES[name],
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            family=ARTIFICIAL_INTELLIGENCE, source="EchoFed", **algorithm
        ),
        display_color=colour,
    )


def _add_frames(
    dataset: Dataset,
    segmented: SegmentedCine,
    shown: list[str],
    header: Dataset,
    *,
    organization: str,
) -> None:
    """Pixels and functional groups (PS3.3 C.7.6.16) with their dimensions (C.7.6.17)."""
    dataset.DimensionOrganizationSequence = [Dataset()]
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    dataset.DimensionIndexSequence = [
        _dimension(organization, "ReferencedSegmentNumber", "SegmentIdentificationSequence"),
        _dimension(organization, "TemporalPositionIndex", "FrameContentSequence"),
    ]
    places = [
        (number, frame, _region(segmented, name, frame))
        for number, name in enumerate(shown, start=1)
        for frame in _frames_with(segmented, name)
    ]
    dataset.SharedFunctionalGroupsSequence = [Dataset()]
    dataset.PerFrameFunctionalGroupsSequence = [
        _groups(number, frame, header) for number, frame, _ in places
    ]
    dataset.NumberOfFrames = len(places)
    # bits run on from one frame to the next (PS3.5 8.1.1)
    dataset.PixelData = pack_bits(np.stack([region_HW for _, _, region_HW in places]).ravel())
    dataset["PixelData"].VR = "OB"


def _frames_with(segmented: SegmentedCine, name: str) -> list[int]:
    return [frame for frame in range(len(segmented.masks)) if _region(segmented, name, frame).any()]


def _region(segmented: SegmentedCine, name: str, frame: int) -> np.ndarray:
    """Where a frame shows a structure, uint8 (H, W)."""
    mask = segmented.masks[frame]
    if mask is None or name not in mask.names:
        return np.zeros(segmented.clip.pixels_THW.shape[1:], np.uint8)
    return mask.region(name).astype(np.uint8)


def _groups(number: int, frame: int, header: Dataset) -> Dataset:
    """The functional groups of one frame: what it shows, when, and on which frame it lies."""
    groups = Dataset()
    groups.SegmentIdentificationSequence = [Dataset()]
    groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber = number
    groups.FrameContentSequence = [Dataset()]
    groups.FrameContentSequence[0].DimensionIndexValues = [number, frame + 1]
    groups.FrameContentSequence[0].TemporalPositionIndex = frame + 1
    image = _reference(header)
    numbers = frame_numbers(header, [frame])
    if numbers is not None:
        image.ReferencedFrameNumber = numbers[0]
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [_coded(SOURCE_IMAGE)]
    derivation = Dataset()
    derivation.DerivationCodeSequence = [_coded(SEGMENTATION)]
    derivation.SourceImageSequence = [image]
    groups.DerivationImageSequence = [derivation]
    return groups


def _add_references(dataset: Dataset, header: Dataset) -> None:
    """The instance that the frames refer to, once more by its series (PS3.3 C.12.2)."""
    series = Dataset()
    series.SeriesInstanceUID = header.SeriesInstanceUID
    series.ReferencedInstanceSequence = [_reference(header)]
    dataset.ReferencedSeriesSequence = [series]


def _reference(header: Dataset) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID = header.SOPClassUID
    image.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return image


def _dimension(organization: str, keyword: str, group: str) -> Dataset:
    dimension = Dataset()
    dimension.DimensionOrganizationUID = organization
    dimension.DimensionIndexPointer = Tag(keyword)
    dimension.FunctionalGroupPointer = Tag(group)
    dimension.DimensionDescriptionLabel = keyword
    return dimension


def _coded(concept: Concept) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = concept.value, concept.meaning
    item.CodingSchemeDesignator = concept.scheme_designator
    return item
