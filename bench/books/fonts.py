"""Loads the fonts of the generated books, from packages that ship them."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import matplotlib
from PIL import ImageFont

_FILES = {
    "serif": "DejaVuSerif.ttf",
    "serif bold": "DejaVuSerif-Bold.ttf",
    "sans": "DejaVuSans.ttf",
    "sans bold": "DejaVuSans-Bold.ttf",
    "times": "STIXGeneral.ttf",
    "times bold": "STIXGeneralBol.ttf",
    "times italic": "STIXGeneralItalic.ttf",
}


@lru_cache(maxsize=64)
def load_font(name: str, size_px: int) -> ImageFont.FreeTypeFont:
    """Loads a font by its short name (`serif`, `sans bold`, `times`, `zh`, …) at a size."""
    if name.startswith("zh"):
        # find_spec, because importing zhplot changes matplotlib's settings.
        package = find_spec("zhplot")
        if package is None or package.origin is None:
            raise SystemExit("The generated books need a Chinese font: pip install 'pathoflow[data]' (package zhplot)")
        path = Path(package.origin).parent / "fonts" / "NotoSansSC-Regular.ttf"
    else:
        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / _FILES[name]
    return ImageFont.truetype(path, size_px, layout_engine=ImageFont.Layout.BASIC)
