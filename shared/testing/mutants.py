"""Damaged copies of DICOM files, by chance and by malice, for readers that must refuse them."""

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.uid import AllTransferSyntaxes

Damage = Callable[[bytes, Sequence[bytes], np.random.Generator], bytes]

_ITEM = b"\xfe\xff\x00\xe0"
_ELEMENT = re.compile(rb"[\x02\x08\x10\x18\x20\x28]\x00..[A-Z][A-Z]", re.DOTALL)
_SYNTAX = re.compile(rb"\x02\x00\x10\x00UI(..)", re.DOTALL)
_LENGTHS = (0, 1, 3, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_ABSURD: dict[str, tuple[Any, ...]] = {
    "Rows": (0, 1, 3, 47, 1000, 30_000, 65_535),
    "Columns": (0, 1, 3, 63, 1000, 30_000, 65_535),
    "NumberOfFrames": (0, 2, 7, 1000, 10**6, 2**31 - 1, -1),
    "SamplesPerPixel": (0, 1, 2, 3, 4, 65_535),
    "BitsAllocated": (0, 1, 8, 12, 16, 32, 64, 65_535),
    "BitsStored": (0, 1, 7, 12, 16, 33, 65_535),
    "HighBit": (0, 7, 15, 65_535),
    "PixelRepresentation": (0, 1, 2, 65_535),
    "PlanarConfiguration": (0, 1, 2),
    "PhotometricInterpretation": (
        "MONOCHROME1", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT",
        "PALETTE COLOR", "HSV", "",
    ),
    "FrameTime": ("0", "-5", "1e30"),
    "PixelSpacing": (["0", "0"], ["-1", "1"], ["1"]),
    "PixelData": (b"", b"\0\0", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"),
}  # fmt: skip


def flip_bits(data: bytes, seeds: Sequence[bytes], generator: np.random.Generator) -> bytes:
    """A few bits turned over."""
    damaged = bytearray(data)
    for place in generator.integers(128, len(data), generator.integers(1, 12)):
        damaged[place] ^= 1 << int(generator.integers(8))
    return bytes(damaged)


def overwrite(data: bytes, seeds: Sequence[bytes], generator: np.random.Generator) -> bytes:
    """A block of zeros, ones or noise."""
    start, stop = _span(data, generator)
    noise = generator.bytes(stop - start)
    block = (bytes(stop - start), b"\xff" * (stop - start), noise)[int(generator.integers(3))]
    return data[:start] + block + data[stop:]


def cut_out(data: bytes, seeds: Sequence[bytes], generator: np.random.Generator) -> bytes:
    """A block missing, or there twice."""
    start, stop = _span(data, generator)
    return data[:start] + data[stop:] if generator.random() < 0.5 else data[:stop] + data[start:]


def truncate(data: bytes, seeds: Sequence[bytes], generator: np.random.Generator) -> bytes:
    """The end missing."""
    return data[: int(generator.integers(len(data)))]


def splice(data: bytes, seeds: Sequence[bytes], generator: np.random.Generator) -> bytes:
    """The head of one file on the tail of another."""
    other = seeds[int(generator.integers(len(seeds)))]
    head = data[: int(generator.integers(132, len(data)))]
    return head + other[int(generator.integers(132, len(other))) :]


def lie_about_length(data: bytes, seeds: Sequence[bytes], generator: np.random.Generator) -> bytes:
    """An element of another length than it has."""
    found = [match.end() for match in _ELEMENT.finditer(data, 132)]
    return _with_length(data, found or [140], generator)


def damage_fragment(data: bytes, seeds: Sequence[bytes], generator: np.random.Generator) -> bytes:
    """A fragment cut short, or of another length than it has."""
    found = [match.end() for match in re.finditer(re.escape(_ITEM), data)]
    if not found or generator.random() < 0.5:
        return _with_length(data, found or [140], generator)
    start = found[int(generator.integers(len(found)))] + 4
    stop = start + int(generator.integers(1, 2000))
    return data[:start] + data[stop:]


def swap_syntax(data: bytes, seeds: Sequence[bytes], generator: np.random.Generator) -> bytes:
    """Another transfer syntax than the file is written in."""
    match = _SYNTAX.search(data, 132)
    if match is None:
        return flip_bits(data, seeds, generator)
    old = int.from_bytes(match[1], "little")
    name = str(AllTransferSyntaxes[int(generator.integers(len(AllTransferSyntaxes)))]).encode()
    name += b"\0" * (len(name) % 2)
    meta = int.from_bytes(data[140:144], "little") + len(name) - old
    head = data[:140] + meta.to_bytes(4, "little") + data[144 : match.start() + 6]
    return head + len(name).to_bytes(2, "little") + name + data[match.end() + old :]


def absurd(data: bytes, seeds: Sequence[bytes], generator: np.random.Generator) -> bytes:
    """One to three elements with values that cannot be, in an otherwise whole header."""
    dataset = dcmread(io.BytesIO(data))
    keywords = [key for key in _ABSURD if key in dataset or generator.random() < 0.2]
    for keyword in generator.choice(keywords, int(generator.integers(1, 4))):
        values = _ABSURD[str(keyword)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            setattr(dataset, str(keyword), values[int(generator.integers(len(values)))])
    for region in dataset.get("SequenceOfUltrasoundRegions", ())[: int(generator.integers(2))]:
        region.RegionLocationMaxX1 = int(generator.integers(2**31))
    stream = io.BytesIO()
    try:
        dataset.save_as(stream)
    except (ValueError, TypeError, AttributeError, OverflowError):  # what cannot even be written
        return flip_bits(data, seeds, generator)
    return stream.getvalue()


DAMAGES: Mapping[str, Damage] = {
    damage.__name__: damage
    for damage in (
        flip_bits, overwrite, cut_out, truncate, splice, lie_about_length, damage_fragment,
        swap_syntax, absurd,
    )
}  # fmt: skip


def mutant(seeds: Sequence[bytes], generator: np.random.Generator) -> tuple[str, bytes]:
    """A damaged copy of one of the files, and the name of the damage."""
    name = list(DAMAGES)[int(generator.integers(len(DAMAGES)))]
    data = seeds[int(generator.integers(len(seeds)))]
    return name, DAMAGES[name](data, seeds, generator)


def _span(data: bytes, generator: np.random.Generator) -> tuple[int, int]:
    start = int(generator.integers(128, len(data)))
    return start, min(len(data), start + int(generator.integers(1, 600)))


def _with_length(data: bytes, places: Sequence[int], generator: np.random.Generator) -> bytes:
    """Overwrite two or four bytes at one of the places with a length that is wrong."""
    place = places[int(generator.integers(len(places)))]
    size = int(generator.choice([2, 4]))
    length = _LENGTHS[int(generator.integers(len(_LENGTHS)))] & ((1 << 8 * size) - 1)
    return data[:place] + length.to_bytes(size, "little") + data[place + size :]
