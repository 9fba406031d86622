"""Generates scanned books for benchmarks: pages of text, some with a figure, as JPEG pages of one PDF."""

from __future__ import annotations

import io
import random
import textwrap
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIZE = (1680, 2352)
_POINTS = (605, 847)
_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif.ttf"
_PAPER = (251, 250, 247)
_WORDS = tuple(
    "the lesion tumour stroma ducts epithelium nuclei mitoses necrosis margin capsule lobules fibrous cells spindle "  # noqa: SIM905
    "vessels gland cords nests mucin pale large small dense loose regular and with of in rarely often clearly grows "
    "shows contains consists resembles compresses infiltrates".split()
)


def page_jpeg(seed: int, *, figure: bool, num_lines: int) -> bytes:
    """Draws one page: body text of about `num_lines` lines, and in the middle a captioned figure of two panels."""
    rng = random.Random(seed)
    page = Image.new("RGB", _SIZE, _PAPER)
    draw = ImageDraw.Draw(page)
    y = _write(draw, rng, 180, num_lines // 2 if figure else num_lines, "")
    if figure:
        for number, letter in enumerate("AB"):
            page.paste(_tissue(rng.randrange(2**31)), (180 + 680 * number, y + 30))
            draw.text((200 + 680 * number, y + 430), letter, font=_face(34), fill="white")
        caption = f"Fig. {seed}.1 Tumour of the breast. (A) Narrow ducts. (B) Wide ducts."
        draw.text((180, y + 510), caption, font=_face(26), fill=(25, 25, 25))
        _write(draw, rng, y + 600, num_lines // 2, f"Ducts differ (Fig. {seed}.1A). ")
    buffer = io.BytesIO()
    page.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def write_scans(path: Path, jpegs: Iterable[bytes]) -> None:
    """Writes a PDF with one image per page, page by page: a book of any length costs the memory of one page."""
    offsets: list[int] = []
    kids: list[int] = []
    with path.open("wb") as file:

        def write(body: bytes) -> int:
            offsets.append(file.tell())
            file.write(b"%d 0 obj\n%s\nendobj\n" % (len(offsets), body))
            return len(offsets)

        file.write(b"%PDF-1.4\n")
        write(b"<< /Type /Catalog /Pages 2 0 R >>")
        # The list of pages is known at the end: its place in the table is filled then.
        offsets.append(0)
        columns, rows = _POINTS
        for jpeg in jpegs:
            width, height = Image.open(io.BytesIO(jpeg)).size
            facts = b"/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceRGB" % (width, height)
            facts += b" /BitsPerComponent 8 /Filter /DCTDecode /Length %d" % len(jpeg)
            image = write(b"<< %s >>\nstream\n%s\nendstream" % (facts, jpeg))
            drawing = b"%d 0 0 %d 0 0 cm /I Do" % (columns, rows)
            content = write(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing))
            resources = b"<< /XObject << /I %d 0 R >> >>" % image
            box = b"/MediaBox [0 0 %d %d]" % (columns, rows)
            kids.append(
                write(b"<< /Type /Page /Parent 2 0 R %s /Resources %s /Contents %d 0 R >>" % (box, resources, content))
            )
        offsets[1] = file.tell()
        listed = b" ".join(b"%d 0 R" % kid for kid in kids)
        file.write(b"2 0 obj\n<< /Type /Pages /Count %d /Kids [%s] >>\nendobj\n" % (len(kids), listed))
        table = file.tell()
        file.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1))
        file.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
        trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        file.write(trailer % (len(offsets) + 1, table))


def _write(draw: ImageDraw.ImageDraw, rng: random.Random, y: int, num_lines: int, start: str) -> int:
    """Writes lines of words from `start` on; returns where the next line would begin."""
    words = start + " ".join(rng.choice(_WORDS) for _ in range(num_lines * 14)).capitalize()
    for line in textwrap.wrap(words, 78)[:num_lines]:
        draw.text((160, y), line, font=_face(30), fill=(25, 25, 25))
        y += 46
    return y


def _face(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONT), size)


def _tissue(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    blotches = Image.fromarray(rng.integers(0, 255, (40, 55), dtype=np.uint8))
    shade = np.asarray(blotches.resize((660, 460), Image.Resampling.BICUBIC), dtype=np.float64)[..., None] / 255
    return Image.fromarray((np.array((190, 110, 165)) * (0.7 + 0.4 * shade)).clip(0, 235).astype(np.uint8))
