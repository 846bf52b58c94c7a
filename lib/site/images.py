"""The size of an image from its first bytes, so that every `<img>` has width and height and nothing moves on loading.

size(Path("figure.png").read_bytes(), "figure.png")    # (640, 480) in CSS px, or None where it says nothing
"""

from __future__ import annotations

import re
import struct

TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}


def size(data: bytes, name: str) -> tuple[int, int] | None:
    """Width and height of a PNG, GIF, JPEG or SVG; None where the data do not say or are of another kind."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return int(width), int(height)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        width, height = struct.unpack("<HH", data[6:10])
        return int(width), int(height)
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if name.endswith(".svg"):
        return _svg(data)
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return int(width), int(height)
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


def _svg(data: bytes) -> tuple[int, int] | None:
    head = re.search(rb"<svg\b[^>]*>", data)
    if head is None:
        return None
    tag = head.group().decode("utf-8", "replace")
    given = [re.search(rf'\b{side}\s*=\s*["\']([\d.]+)(px|pt)?["\']', tag) for side in ("width", "height")]
    if all(given):
        pairs = [(float(m.group(1)), m.group(2)) for m in given if m]
        return tuple(round(value * (4 / 3 if unit == "pt" else 1)) for value, unit in pairs)  # type: ignore[return-value]
    box = re.search(r'viewBox\s*=\s*["\']([-\d.eE\s,]+)["\']', tag)
    if box:
        numbers = [float(x) for x in re.split(r"[\s,]+", box.group(1).strip())]
        if len(numbers) == 4:
            return round(numbers[2]), round(numbers[3])
    return None
