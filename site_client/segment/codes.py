"""What DICOM calls our structures, measurements, methods, units and views (PS3.16).

A test holds every standard code against the context groups of PS3.16 that pydicom carries. What
the standard has no code for gets one of the private scheme, and keeps its name as the meaning.
"""

import hashlib

from pydicom.sr.coding import Code

from shared.echo.measurement import Measurement
from shared.echo.ontology import load_ontology

PRIVATE_SCHEME = "99ECHOFED"

ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")  # CID 7150
LEFT_VENTRICLE = Code("87878005", "SCT", "Left ventricle")
STRUCTURES: dict[str, Code] = {  # CID 7151, the myocardium of CID 12305
    "lv": LEFT_VENTRICLE,
    "myocardium": Code("49848007", "SCT", "Left Ventricle Myocardium"),
    "la": Code("82471001", "SCT", "Left atrium"),
    "rv": Code("53085002", "SCT", "Right ventricle"),
    "ra": Code("73829009", "SCT", "Right atrium"),
    "aorta": Code("15825003", "SCT", "Aorta"),
}
SEGMENT_LABELS = {"lv": "Left ventricle, cavity", "myocardium": "Left ventricle, myocardium"}

ECHOCARDIOGRAPHY = Code("40701008", "SCT", "Echocardiography")  # CID 12001
REPORT_TITLE = Code("126000", "DCM", "Imaging Measurement Report")  # CID 7021
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
SEGMENTATION = Code("113076", "DCM", "Segmentation")  # PS3.3 A.51.5.1
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # the same
IMAGE_VIEW = Code("111031", "DCM", "Image View")
CYCLE_POINT = Code("272518008", "SCT", "Cardiovascular cycle point (qualifier value)")
END_DIASTOLE = Code("416190007", "SCT", "End diastole")  # CID 12233
END_SYSTOLE = Code("416430001", "SCT", "End Systole")  # CID 12233
AREA = Code("42798000", "SCT", "Area")  # CID 7471
UPPER = Code("371886008", "SCT", "+, range of upper measurement uncertainty")  # CID 225
LOWER = Code("371885007", "SCT", "-, range of lower measurement uncertainty")  # CID 225
CAUTION = Code("CAUTION", PRIVATE_SCHEME, "What speaks against the number")
SQUARE_CENTIMETRE = Code("cm2", "UCUM", "square centimeter")

_MEASUREMENTS: dict[str, Code] = {
    "EDV": Code("18026-5", "LN", "Left Ventricular End Diastolic Volume"),  # CID 12202
    "ESV": Code("18148-7", "LN", "Left Ventricular End Systolic Volume"),  # CID 12202
    "EF": Code("18043-0", "LN", "Left Ventricular Ejection Fraction by US"),  # CID 12202
    "SV": Code("90096001", "SCT", "Stroke Volume"),  # CID 12200
    "FAC": Code("399287000", "SCT", "Left Ventricular Fractional Area Change"),  # CID 12240
    "LV mass": Code("18087-7", "LN", "Left Ventricle Mass"),  # CID 12203
}
_STRAIN: dict[str, Code] = {  # CID 12309
    "A4C": Code("130687", "DCM", "LV End-systolic GLS 4CH (Endocardial)"),
    "A2C": Code("130688", "DCM", "LV End-systolic GLS 2CH (Endocardial)"),
    "A3C": Code("130689", "DCM", "LV End-systolic GLS ALAX (Endocardial)"),
}
_STRAIN_OF_VIEWS = Code("130686", "DCM", "LV End-systolic GLS Multiview Mean (Endocardial)")
_MEANINGS = {
    "MAPSE": "Mitral annular plane systolic excursion",
    "RWT": "Relative wall thickness",
}
_BIPLANE = Code("125207", "DCM", "Method of Disks, Biplane")
_SINGLE_PLANE = Code("125208", "DCM", "Method of Disks, Single Plane")
_METHODS: dict[str, Code] = {  # CID 12227, by how the words of a measurement begin
    "disks (biplane": _BIPLANE,
    "basal disks (biplane": _BIPLANE,
    "disks (single plane": _SINGLE_PLANE,
    "basal disks (single plane": _SINGLE_PLANE,
    "area-length, single plane": Code("125205", "DCM", "Area-Length Single Plane"),
    "cube formula": Code("125206", "DCM", "Cube Method"),
    "longitudinal strain of the endocardial contour": Code("130683", "DCM", "Endocardial Method"),
}
UNITS: dict[str, Code] = {
    "ml": Code("ml", "UCUM", "milliliter"),
    "%": Code("%", "UCUM", "Percent"),
    "g": Code("g", "UCUM", "gram"),
    "mm": Code("mm", "UCUM", "millimeter"),
    "1": Code("1", "UCUM", "no units"),
}


def measurement_code(measurement: Measurement) -> Code:
    """The concept that a measurement is a value of."""
    planes = {load_ontology().find(view).facets.plane for view in measurement.views}
    if measurement.name == "GLS":
        plane = planes.pop() if len(planes) == 1 else ""
        return _STRAIN.get(plane, _STRAIN_OF_VIEWS)
    # FAC says its view behind its name
    known = _MEASUREMENTS.get(measurement.name) or _MEASUREMENTS.get(measurement.name.split()[0])
    return known or private_code(_MEANINGS.get(measurement.name, measurement.name))


def method_code(measurement: Measurement) -> Code | None:
    """The coded method, None where DICOM has no code for it."""
    fitting = [code for words, code in _METHODS.items() if measurement.method.startswith(words)]
    return fitting[0] if fitting else None


def view_code(view: str) -> Code:
    """The code of a view, or of the next wider view that has one."""
    ontology = load_ontology()
    node = found = ontology.find(view)
    while not node.code and node.parent:
        node = ontology.views[node.parent]
    scheme, _, value = node.code.partition(" ")
    return Code(value, scheme, node.name) if node.code else private_code(found.name)


def private_code(meaning: str) -> Code:
    """A code of our own scheme; a code value has 16 characters at most."""
    return Code(hashlib.sha256(meaning.encode()).hexdigest()[:16], PRIVATE_SCHEME, meaning)
