from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from io import BytesIO

import numpy as np
import pytest
from highdicom.seg import segread
from pydicom import dcmread
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset

from shared.echo.mask import STRUCTURES
from shared.errors import Code, EchoFedError
from site_client.segment.cine import SegmentedCine
from site_client.segment.dicom_header import to_bytes
from site_client.segment.dicom_segmentation import build_segmentation

MADE = datetime(2024, 3, 12, 10, 30)  # noqa: DTZ001 - a time on the hospital's clock


def built(segmented: SegmentedCine, source: Dataset) -> FileDataset:
    """Written and read again."""
    return dcmread(BytesIO(to_bytes(build_segmentation(segmented, source, made=MADE))))


def labels_of(segmented: SegmentedCine) -> np.ndarray:
    return np.stack([mask.labels_HW for mask in segmented.masks if mask is not None])


def test_the_pixels_come_back_equal(segmented: SegmentedCine, source: FileDataset) -> None:
    dataset = built(segmented, source)
    seen_FHW, labels_THW = dataset.pixel_array, labels_of(segmented)
    back_THW = np.zeros_like(labels_THW)
    for groups, plane_HW in zip(dataset.PerFrameFunctionalGroupsSequence, seen_FHW, strict=True):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        back_THW[image.ReferencedFrameNumber - 1][plane_HW > 0] = number
    # on the phantom's A4C all six structures are seen, in the house's order
    assert list(STRUCTURES[1:]) == list(segmented.structures)
    np.testing.assert_array_equal(back_THW, labels_THW)


def test_another_library_reads_the_masks_by_the_frames_of_the_source(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    data = to_bytes(build_segmentation(segmented, source, made=MADE))
    seen_THW = segread(BytesIO(data)).get_pixels_by_source_frame(
        source.SOPInstanceUID, range(1, 9), combine_segments=True
    )
    np.testing.assert_array_equal(seen_THW, labels_of(segmented))


def test_frames_without_a_mask_have_no_frame(segmented: SegmentedCine, source: FileDataset) -> None:
    few = replace(segmented, masks=(None, *segmented.masks[1:3], *(None,) * 5))
    dataset = built(few, source)
    frames = {
        groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for groups in dataset.PerFrameFunctionalGroupsSequence
    }
    assert frames == {2, 3}


def test_a_structure_that_is_nowhere_is_no_segment(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    wanted = ("background", "myocardium", "lv")
    masks = tuple(mask and mask.renamed(wanted) for mask in segmented.masks)
    dataset = built(replace(segmented, masks=masks), source)
    types = [
        item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in dataset.SegmentSequence
    ]
    assert types == ["87878005", "49848007"]
    assert [item.SegmentNumber for item in dataset.SegmentSequence] == [1, 2]


def test_each_place_has_its_own_indices(segmented: SegmentedCine, source: FileDataset) -> None:
    dataset = built(segmented, source)
    indices = [
        tuple(groups.FrameContentSequence[0].DimensionIndexValues)
        for groups in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert len(set(indices)) == dataset.NumberOfFrames == len(indices)
    assert indices == sorted(indices)


def test_without_a_place_in_space_none_is_claimed(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    dataset = built(segmented, source)
    assert "FrameOfReferenceUID" not in dataset
    for groups in (
        *dataset.SharedFunctionalGroupsSequence,
        *dataset.PerFrameFunctionalGroupsSequence,
    ):
        for keyword in (
            "PixelMeasuresSequence",
            "PlanePositionSequence",
            "PlaneOrientationSequence",
        ):
            assert keyword not in groups


def test_patient_and_study_are_those_of_the_source(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    dataset = built(segmented, source)
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
        "StudyDate", "StudyID", "AccessionNumber",
    ):  # fmt: skip
        assert dataset[keyword].value == source[keyword].value
    assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    assert dataset.SOPInstanceUID != source.SOPInstanceUID
    reference = dataset.ReferencedSeriesSequence[0]
    assert reference.SeriesInstanceUID == source.SeriesInstanceUID
    assert reference.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_the_model_is_named(segmented: SegmentedCine, source: FileDataset) -> None:
    for item in built(segmented, source).SegmentSequence:
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        assert item.SegmentAlgorithmName == algorithm.AlgorithmName == "north-unet-0a1b2c3d"
        assert algorithm.AlgorithmVersion == "0a" * 32


def test_the_same_input_at_the_same_time_is_the_same_object(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    first, again = built(segmented, source), built(segmented, source)
    assert first.SOPInstanceUID == again.SOPInstanceUID
    later = build_segmentation(segmented, source, made=MADE.replace(minute=31))
    assert later.SOPInstanceUID != first.SOPInstanceUID


def test_a_lossy_source_is_told(segmented: SegmentedCine, source: FileDataset) -> None:
    source.LossyImageCompression = "01"
    source.LossyImageCompressionRatio = "12.5"
    source.LossyImageCompressionMethod = "ISO_10918_1"
    dataset = built(segmented, source)
    assert dataset.LossyImageCompression == "01"
    assert dataset.LossyImageCompressionRatio == 12.5


def test_a_single_image_is_referred_to_as_a_whole(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    clip = replace(segmented.clip, pixels_THW=segmented.clip.pixels_THW[:1])
    still = SegmentedCine(clip, "A4C", segmented.masks[:1], (None,), (), segmented.models)
    del source.NumberOfFrames
    dataset = built(still, source)
    image = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    assert "ReferencedFrameNumber" not in image.SourceImageSequence[0]


def test_a_header_that_is_bare_is_enough(segmented: SegmentedCine, source: FileDataset) -> None:
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID",
        "AccessionNumber", "ReferringPhysicianName", "PatientOrientation",
    ):  # fmt: skip
        delattr(source, keyword)
    source.PatientSex = "U"
    dataset = built(segmented, source)
    assert dataset.PatientName == ""
    assert dataset.PatientSex == ""


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_source_to_which_nothing_can_refer_is_refused(
    segmented: SegmentedCine, source: FileDataset, keyword: str
) -> None:
    delattr(source, keyword)
    with pytest.raises(EchoFedError) as error:
        build_segmentation(segmented, source, made=MADE)
    assert error.value.code == Code.DATA_UNREADABLE


@pytest.mark.parametrize("keyword", ["NumberOfFrames", "Rows", "Columns"])
def test_another_file_than_the_segmented_one_is_refused(
    segmented: SegmentedCine, source: FileDataset, keyword: str
) -> None:
    setattr(source, keyword, 7)
    with pytest.raises(EchoFedError) as error:
        build_segmentation(segmented, source, made=MADE)
    assert error.value.code == Code.SHAPE_MISMATCH


def test_a_header_that_makes_no_object_is_refused_without_its_values(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    source.SpecificCharacterSet = "VERDICHIO"
    with pytest.raises(EchoFedError) as error:
        build_segmentation(segmented, source, made=MADE)
    assert error.value.code == Code.DATA_UNREADABLE
    assert "VERDICHIO" not in str(error.value)
    assert error.value.__cause__ is None


def test_no_library_logs_a_value_of_the_header(
    segmented: SegmentedCine, source: FileDataset, caplog: pytest.LogCaptureFixture
) -> None:
    source.add(DataElement("AccessionNumber", "SH", "Verdichio" * 9, validation_mode=IGNORE))
    buffer = BytesIO()
    source.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    caplog.clear()
    # values of a file are looked at when they are asked for
    with suppress(EchoFedError):
        build_segmentation(segmented, dcmread(buffer), made=MADE)
    assert not caplog.records


def test_without_a_mask_there_is_nothing_to_do(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    with pytest.raises(EchoFedError) as error:
        build_segmentation(replace(segmented, masks=(None,) * 8), source, made=MADE)
    assert error.value.code == Code.NOTHING_TO_DO
