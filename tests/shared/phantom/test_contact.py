from shared.phantom.contact import contact_sheet
from shared.phantom.planes import VIEWS
from shared.phantom.scanner import SCANNERS


def test_sheet_shows_every_view_on_every_scanner() -> None:
    sheet = contact_sheet(0, size_HW=(112, 112))
    assert sheet.shape == (112 * len(SCANNERS), 112 * len(VIEWS))
    for row in range(len(SCANNERS)):
        for column in range(len(VIEWS)):
            cell = sheet[112 * row : 112 * (row + 1), 112 * column : 112 * (column + 1)]
            assert cell.std() > 10
