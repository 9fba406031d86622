"""Reads patches of whole-slide images with OpenSlide."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Self

from PIL import Image

from pathoflow.data.image_io import UnreadableImage
from pathoflow.errors import StageError

if TYPE_CHECKING:
    from openslide import OpenSlide

SUFFIXES = frozenset({".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".dcm"})
"""Endings, in lower case, of files that OpenSlide reads."""

_NUM_OPEN = 8


class SlideStore:
    """The slides below a folder, by their names without ending."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._paths: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                self._paths.setdefault(path.stem, []).append(path)
        self._open: OrderedDict[str, OpenSlide] = OrderedDict()

    def read_patch(self, name: str, position: tuple[int, int], side_px: int) -> Image.Image:
        """Reads a square of a slide at full resolution, in RGB; areas that were not scanned are white.

        Args:
            name: The slide.
            position: The square's upper left corner at level 0, in pixels.
            side_px: The square's side, in pixels.

        Raises:
            UnreadableImage: The slide is missing or damaged, or the square leaves it.
        """
        openslide = _openslide()
        try:
            slide = self._slide(name)
            width, height = slide.dimensions
            if not (0 <= position[0] <= width - side_px and 0 <= position[1] <= height - side_px):
                detail = f"{side_px} px from {position[0]}, {position[1]} in a slide of {width} x {height} px"
                raise UnreadableImage("outside_slide", detail)
            patch = slide.read_region(position, 0, (side_px, side_px))
        except (openslide.OpenSlideError, OSError) as error:
            # A slide that failed once fails always, and has to be opened anew.
            self._open.pop(name, None)
            raise UnreadableImage("unreadable_slide", f"{name}: {error}") from error
        paper = Image.new("RGB", patch.size, "white")
        paper.paste(patch, mask=patch.getchannel("A"))
        return paper

    def _slide(self, name: str) -> OpenSlide:
        openslide = _openslide()
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        path = self._path(name)
        if openslide.OpenSlide.detect_format(path) is None:
            raise UnreadableImage("unreadable_slide", f"{path} is no slide that OpenSlide knows")
        self._open[name] = openslide.OpenSlide(path)
        if len(self._open) > _NUM_OPEN:
            self._open.popitem(last=False)[1].close()
        return self._open[name]

    def _path(self, name: str) -> Path:
        stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name
        paths = self._paths.get(stem, [])
        if not paths:
            raise UnreadableImage("missing_slide", f"{self.folder} holds no slide {name}")
        if len(paths) > 1:
            places = ", ".join(str(path.relative_to(self.folder)) for path in paths[:3])
            raise UnreadableImage("ambiguous_slide", f"{len(paths)} slides are named {name}: {places}. Keep one")
        path = paths[0].resolve()
        if not path.is_relative_to(self.folder):
            raise UnreadableImage("path_outside_folder", f"{paths[0]} leads to {path}, outside {self.folder}")
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for slide in self._open.values():
            slide.close()
        self._open.clear()


def _openslide() -> ModuleType:
    """Imports OpenSlide, which only recipes with slides need."""
    try:
        import openslide
    except ImportError as error:
        raise StageError(
            "Slides are read with OpenSlide, which is not installed. Run: pip install 'pathoflow[slides]'"
        ) from error
    return openslide
