"""Measurements as a DICOM Structured Report (PS3.16 TID 1500) of the file that was segmented.

Measurements that rest on the same contours stand in one group (TID 1501) with the source's
frames, the view, the model and what speaks against them; the contours at end diastole and end
systole are regions of their frames (TID 1410). Intervals are told as ranges of uncertainty (TID
310). The report says that it is not verified: no physician has seen it.

The report names the patient, as DICOM demands: it goes to the hospital's archive and nowhere else.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypeAlias, TypeVar

import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageRegion,
    MeasurementProperties,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TrackingIdentifier,
)
from highdicom.sr import Measurement as MeasurementItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from shared.echo.contour import Contour
from shared.echo.measurement import Measurement
from shared.errors import Code, EchoFedError
from site_client.segment.cine import SegmentedCine, contour_xy_px
from site_client.segment.codes import (
    AREA,
    CAUTION,
    CYCLE_POINT,
    ECHOCARDIOGRAPHY,
    END_DIASTOLE,
    END_SYSTOLE,
    IMAGE_VIEW,
    LEFT_VENTRICLE,
    LOWER,
    PRIVATE_SCHEME,
    REPORT_TITLE,
    SQUARE_CENTIMETRE,
    UNITS,
    UPPER,
    measurement_code,
    method_code,
    private_code,
    view_code,
)
from site_client.segment.dicom_header import (
    MANUFACTURER,
    MODEL_NAME,
    building_door,
    describe_maker,
    frame_numbers,
    header_of,
    new_uid,
)

_SERIES = 901
Reference = TypeVar("Reference", SourceImageForMeasurementGroup, SourceImageForRegion)
Group: TypeAlias = (
    MeasurementsAndQualitativeEvaluations | PlanarROIMeasurementsAndQualitativeEvaluations
)


def build_report(segmented: SegmentedCine, source: Dataset, *, made: datetime) -> Dataset:
    """A Comprehensive SR of all measurements and of the contours at both instants.

    Args:
        segmented: its measurements may rest on the cine of another view too; then the source's
            frames are named for its own view only.
        source: the original file; its patient and study become those of the report.
        made: when it was measured, in local time.

    Raises:
        EchoFedError: NOTHING_TO_DO where nothing was measured; SHAPE_MISMATCH, DATA_UNREADABLE for
            a source that does not fit.
    """
    header = header_of(source, segmented)
    groups = [*_measured(segmented, header, made), *_outlined(segmented, header, made)]
    if not groups:
        raise EchoFedError(
            Code.NOTHING_TO_DO,
            "nothing was measured, so there is no report",
            "segment a cine with a known spacing, or leave sr out",
        )
    content = _content(groups, device=new_uid(header, made, "device"))
    with building_door():
        report = ComprehensiveSR(
            evidence=[header],
            content=content[0],
            series_instance_uid=new_uid(header, made, "report series"),
            series_number=_SERIES,
            sop_instance_uid=new_uid(header, made, "report"),
            instance_number=1,
            is_complete=True,
            content_date=made.date(),
            content_time=made.time(),
            series_description="Measurements of the heart",
            coding_schemes=[CodingSchemeIdentificationItem(PRIVATE_SCHEME, name="EchoFed")],
            **describe_maker(segmented.models),
        )
    assert isinstance(report, Dataset)
    return report


def _content(groups: Sequence[Group], *, device: str) -> MeasurementReport:
    observer = DeviceObserverIdentifyingAttributes(
        uid=device, name=MODEL_NAME, manufacturer_name=MANUFACTURER, model_name=MODEL_NAME
    )
    return MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(codes.DCM.Device, observer)
        ),
        procedure_reported=ECHOCARDIOGRAPHY,
        imaging_measurements=groups,
        title=REPORT_TITLE,
    )


def _measured(segmented: SegmentedCine, header: Dataset, made: datetime) -> Iterator[Group]:
    """One group for all measurements that rest on the same contours."""
    together: dict[tuple[object, ...], list[Measurement]] = {}
    for number in segmented.measurements:
        key = (number.views, number.frames, number.flags)
        together.setdefault(key, []).append(number)
    for place, numbers in enumerate(together.values(), start=1):
        first = numbers[0]
        own = [
            frame
            for view, frame in zip(first.views, first.frames, strict=True)
            if view == segmented.view
        ]
        views = [
            QualitativeEvaluation(IMAGE_VIEW, view_code(v)) for v in dict.fromkeys(first.views)
        ]
        flags = [QualitativeEvaluation(CAUTION, private_code(flag)) for flag in first.flags]
        yield MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(
                uid=new_uid(header, made, f"group {place}"), identifier=f"Measurements {place}"
            ),
            algorithm_id=_algorithm(segmented, numbers),
            finding_sites=[FindingSite(LEFT_VENTRICLE)],
            measurements=[_item(number) for number in numbers],
            qualitative_evaluations=[*views, *flags],
            source_images=[_image(SourceImageForMeasurementGroup, header, own)] if own else None,
        )


def _item(number: Measurement) -> MeasurementItem:
    """The number with its unit, method and uncertainty."""
    return MeasurementItem(
        name=measurement_code(number),
        value=number.value,
        unit=UNITS[number.unit],
        method=method_code(number),
        properties=_ranges(number) if number.interval is not None else None,
    )


def _ranges(number: Measurement) -> MeasurementProperties:
    """How far the interval reaches up and down, in the unit of the number."""
    assert number.interval is not None
    low, high = number.interval
    properties = MeasurementProperties()
    for name, reach in ((UPPER, high - number.value), (LOWER, number.value - low)):
        # highdicom's own arguments would call a range of ml or % one without unit
        properties.append(
            NumContentItem(
                name=name,
                value=reach,
                unit=UNITS[number.unit],
                relationship_type=RelationshipTypeValues.HAS_PROPERTIES,
            )
        )
    return properties


def _outlined(segmented: SegmentedCine, header: Dataset, made: datetime) -> Iterator[Group]:
    """The contours at end diastole and end systole as closed polygons of their frames."""
    for frame, point in ((segmented.ed, END_DIASTOLE), (segmented.es, END_SYSTOLE)):
        contour = None if frame is None else segmented.contours[frame]
        if frame is None or contour is None:
            continue
        region = ImageRegion(
            graphic_type="POLYLINE",
            graphic_data=_closed_xy_px(contour, header),
            source_image=_image(SourceImageForRegion, header, [frame]),
        )
        area = MeasurementItem(name=AREA, value=contour.area_mm2 / 100, unit=SQUARE_CENTIMETRE)
        yield PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(
                uid=new_uid(header, made, f"contour {frame}"),
                identifier=f"Endocardial contour, {point.meaning.lower()}",
            ),
            referenced_region=region,
            algorithm_id=_algorithm(segmented, []),
            finding_type=LEFT_VENTRICLE,
            finding_sites=[FindingSite(LEFT_VENTRICLE)],
            measurements=[area],
            qualitative_evaluations=[
                QualitativeEvaluation(CYCLE_POINT, point),
                QualitativeEvaluation(IMAGE_VIEW, view_code(segmented.view)),
            ],
        )


def _closed_xy_px(contour: Contour, header: Dataset) -> np.ndarray:
    """(column, row) from the corner of the first pixel, within the picture (PS3.3 C.18.6)."""
    points = contour_xy_px(contour) + 0.5
    closed: np.ndarray = np.concatenate([points, points[:1]])
    return closed.clip(0, [header.Columns, header.Rows])


def _algorithm(segmented: SegmentedCine, numbers: Sequence[Measurement]) -> AlgorithmIdentification:
    """The models, and in their own words how each number was found."""
    return AlgorithmIdentification(
        name=", ".join(model.id for model in segmented.models),
        version=", ".join(model.weights_sha256 for model in segmented.models),
        parameters=[f"{number.name}: {number.method}" for number in numbers] or None,
    )


def _image(kind: type[Reference], header: Dataset, frames: Sequence[int]) -> Reference:
    numbers = frame_numbers(header, sorted(set(frames)))
    return kind(header.SOPClassUID, header.SOPInstanceUID, numbers)
