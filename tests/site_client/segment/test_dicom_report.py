from dataclasses import replace
from datetime import datetime
from io import BytesIO

import numpy as np
import pytest
from highdicom.sr import ComprehensiveSR, srread
from pydicom.dataset import Dataset, FileDataset

from shared.errors import Code, EchoFedError
from site_client.segment.cine import SegmentedCine, contour_xy_px
from site_client.segment.codes import LOWER, UPPER, measurement_code
from site_client.segment.dicom_header import to_bytes
from site_client.segment.dicom_report import build_report

MADE = datetime(2024, 3, 12, 10, 30)  # noqa: DTZ001 - a time on the hospital's clock


def built(segmented: SegmentedCine, source: Dataset) -> ComprehensiveSR:
    """Written and read again by another library's reader."""
    report = srread(BytesIO(to_bytes(build_report(segmented, source, made=MADE))))
    assert isinstance(report, ComprehensiveSR)
    return report


def numbers_of(item: Dataset) -> list[Dataset]:
    return [part for part in item.get("ContentSequence", []) if part.ValueType == "NUM"]


def all_numbers(report: ComprehensiveSR) -> list[Dataset]:
    groups = report.content.get_image_measurement_groups()
    return [number for group in groups for number in numbers_of(group[0])]


def value_of(item: Dataset) -> tuple[float, str]:
    measured = item.MeasuredValueSequence[0]
    unit = measured.MeasurementUnitsCodeSequence[0]
    assert unit.CodingSchemeDesignator == "UCUM"
    return float(measured.NumericValue), str(unit.CodeValue)


def test_every_number_is_there_with_its_code_and_unit(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    found = {
        item.ConceptNameCodeSequence[0].CodeValue: value_of(item)
        for item in all_numbers(built(segmented, source))
    }
    assert len(found) == len(segmented.measurements)
    for number in segmented.measurements:
        value, unit = found[measurement_code(number).value]
        assert value == pytest.approx(number.value, rel=1e-12)
        assert unit == number.unit


def test_the_interval_is_what_the_uncertainty_spans(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    known = {measurement_code(number).value: number for number in segmented.measurements}
    for item in all_numbers(built(segmented, source)):
        number = known[item.ConceptNameCodeSequence[0].CodeValue]
        reach = {
            part.ConceptNameCodeSequence[0].CodeValue: value_of(part) for part in numbers_of(item)
        }
        assert number.interval is not None
        assert {unit for _, unit in reach.values()} == {number.unit}
        span = (number.value - reach[LOWER.value][0], number.value + reach[UPPER.value][0])
        assert span == pytest.approx(number.interval)


def test_groups_refer_to_the_frames_that_were_used(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    groups = built(segmented, source).content.get_image_measurement_groups()
    used = set()
    for group in groups:
        for image in group.source_images:
            reference = image.ReferencedSOPSequence[0]
            assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
            used |= {int(number) for number in np.atleast_1d(reference.ReferencedFrameNumber)}
    assert segmented.ed is not None
    assert segmented.es is not None
    assert used == {segmented.ed + 1, segmented.es + 1}


def test_a_contour_is_a_closed_region_of_its_frame(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    groups = built(segmented, source).content.get_planar_roi_measurement_groups()
    assert len(groups) == 2
    for group, frame in zip(groups, (segmented.ed, segmented.es), strict=True):
        assert frame is not None
        contour = segmented.contours[frame]
        assert contour is not None
        points = group.roi.value
        np.testing.assert_array_equal(points[0], points[-1])
        # DICOM counts from the corner of the first pixel, we from its centre
        np.testing.assert_allclose(points[:-1] - 0.5, contour_xy_px(contour), atol=1e-4)
        area = group.get_measurements()[0]
        assert area.value == pytest.approx(contour.area_mm2 / 100)
        regions = [item for item in group[0].ContentSequence if item.ValueType == "SCOORD"]
        reference = regions[0].ContentSequence[0].ReferencedSOPSequence[0]
        assert reference.ReferencedFrameNumber == frame + 1


def test_numbers_of_two_views_refer_to_the_own_frames_only(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    spacing = segmented.clip.mm_per_pixel
    assert spacing is not None
    number = replace(
        segmented.measurements[0],
        name="EF", unit="%", method="disks (biplane, 20)", views=("A4C", "A2C"), frames=(2, 5),
        mm_per_pixel=(spacing, spacing), flags=("foreshortened",),
    )  # fmt: skip
    report = built(replace(segmented, measurements=(number,), ed=None, es=None), source)
    (group,) = report.content.get_image_measurement_groups()
    reference = group.source_images[0].ReferencedSOPSequence[0]
    assert reference.ReferencedFrameNumber == 3
    said = [item.value.meaning for item in group.get_qualitative_evaluations()]
    assert said == ["Apical four-chamber", "Apical two-chamber", "foreshortened"]


def test_the_report_is_complete_but_not_verified(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    report = built(segmented, source)
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


def test_patient_and_study_are_those_of_the_source(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    report = built(segmented, source)
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "StudyInstanceUID",
        "StudyDate",
    ):
        assert report[keyword].value == source[keyword].value
    evidence = report.get_evidence()
    assert [entry[2] for entry in evidence] == [source.SOPInstanceUID]


def test_models_and_methods_are_named(segmented: SegmentedCine, source: FileDataset) -> None:
    report = build_report(segmented, source, made=MADE)
    text = "\n".join(str(item.value) for item in report.iterall() if item.VR == "UT")
    for model in segmented.models:
        assert model.id in text
        assert model.weights_sha256 in text
    for number in segmented.measurements:
        assert f"{number.name}: {number.method}" in text


def test_without_a_number_or_a_contour_there_is_nothing_to_do(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    bare = replace(segmented, measurements=(), contours=(None,) * 8)
    with pytest.raises(EchoFedError) as error:
        build_report(bare, source, made=MADE)
    assert error.value.code == Code.NOTHING_TO_DO
