"""What a compressed frame says of its size, read before a decoder believes it.

Decoders make room for what the stream claims; a damaged one claims gigabytes.
References: ITU-T T.81 B.2.2 (JPEG), T.87 C.2.2 (JPEG-LS), T.800 A.5.1 (JPEG 2000).
"""

import struct

_START_2000 = b"\xff\x4f\xff\x51"  # SOC and SIZ, which must follow each other
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF0-15 and SOF55 of JPEG-LS
_SIGNATURE_2000 = b"\0\0\0\x0cjP  "  # of a JP2 file, which holds a stream after other boxes


def declared_shape(code: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples that a JPEG, JPEG-LS or JPEG 2000 stream declares.

    Returns:
        None where the stream is cut off or is none of them.
    """
    try:
        if code.startswith(_SIGNATURE_2000):
            code = code[code.index(_START_2000) :]
        return _of_jpeg_2000(code) if code.startswith(_START_2000) else _of_jpeg(code)
    except (struct.error, LookupError, ValueError):
        return None


def _of_jpeg_2000(code: bytes) -> tuple[int, int, int]:
    right, bottom, left, top = struct.unpack_from(">4I", code, 8)
    (samples,) = struct.unpack_from(">H", code, 40)
    return bottom - top, right - left, samples


def _of_jpeg(code: bytes) -> tuple[int, int, int] | None:
    place = 2
    while code[place] == 0xFF:
        marker = code[place + 1]
        if marker in _FRAME_MARKERS:
            rows, columns, samples = struct.unpack_from(">HHB", code, place + 5)
            return rows, columns, samples
        # a marker may be preceded by any number of fill bytes
        is_fill = marker == 0xFF
        place += 1 if is_fill else 2 + struct.unpack_from(">H", code, place + 2)[0]
    return None
