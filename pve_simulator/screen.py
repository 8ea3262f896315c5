"""A small text screen as pixels: a 3x5 font of our own, four times enlarged, two colours."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .text import words

WIDTH, HEIGHT = 640, 360
SCALE = 4
CELL_WIDTH, CELL_HEIGHT = 16, 24
COLUMNS, ROWS = WIDTH // CELL_WIDTH, HEIGHT // CELL_HEIGHT
FOREGROUND, BACKGROUND = (0x7F, 0xE0, 0x9A), (0x10, 0x18, 0x20)

_GLYPHS = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-.:_/!?,=+()#* ",
        words(
            "75557 26227 71747 71717 55711 74717 74757 71111 75757 75717",
            "25755 65656 34443 65556 74647 74644 34553 55755 72227 11157",
            "55655 44447 57755 65555 25552 75744 25563 75655 34216 72222",
            "55557 55552 55775 55255 55222 71247 00700 00002 02020 00007",
            "11244 22202 61202 00024 07070 02720 12221 42224 57575 52525",
            "00000",
        ),
        strict=True,
    )
)
"""Five rows of three bits each, one octal digit a row."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """As a VNC client may choose it: true colour only."""

    bits: int = 32
    is_big_endian: bool = False
    maxima: tuple[int, int, int] = (255, 255, 255)
    shifts: tuple[int, int, int] = (16, 8, 0)

    @classmethod
    def parse(cls, raw: bytes) -> PixelFormat:
        bits, _, big, _, red, green, blue, *shifts = struct.unpack(">BBBBHHHBBB3x", raw)
        return cls(bits, bool(big), (red, green, blue), (shifts[0], shifts[1], shifts[2]))

    def pack(self) -> bytes:
        return struct.pack(
            ">BBBBHHHBBB3x", self.bits, 24, self.is_big_endian, 1, *self.maxima, *self.shifts
        )

    def pixel(self, colour: tuple[int, int, int]) -> bytes:
        value = 0
        for part, maximum, shift in zip(colour, self.maxima, self.shifts, strict=True):
            value |= (part * maximum // 255) << shift
        return value.to_bytes(self.bits // 8, "big" if self.is_big_endian else "little")


def render(lines: list[str], pixels: PixelFormat) -> bytes:
    """The whole screen, row by row; characters without a glyph show as `?`."""
    light, dark = pixels.pixel(FOREGROUND), pixels.pixel(BACKGROUND)
    blank = dark * WIDTH
    parts: list[bytes] = []
    for line in (lines + [""] * ROWS)[:ROWS]:
        glyphs = [_GLYPHS.get(char, _GLYPHS["?"]) for char in line.upper()[:COLUMNS]]
        for row in range(5):
            pixel_row = b"".join(_glyph_row(int(glyph[row]), light, dark) for glyph in glyphs)
            pixel_row += dark * (WIDTH - CELL_WIDTH * len(glyphs))
            parts += [pixel_row] * SCALE
        parts += [blank] * (CELL_HEIGHT - 5 * SCALE)
    return b"".join(parts)


def _glyph_row(bits: int, light: bytes, dark: bytes) -> bytes:
    body = b"".join((light if bits & mask else dark) * SCALE for mask in (4, 2, 1))
    return body + dark * (CELL_WIDTH - 3 * SCALE)
