"""Layout analysis with DocLayout-YOLO, the paper's own model, from an ONNX file that the user brings.

Its weights are AGPL: they are neither shipped nor fetched. Source: DocLayout-YOLO (arXiv 2410.12628) trained on
DocStructBench, exported to ONNX; one output `[1, N, 6]` of corner, corner, confidence, class in pixels of the input.
"""

from __future__ import annotations

import ast
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.layout.regions import Region, sort_by_confidence
from components.data_processing.textbook_pairs.pixels import Pixels
from pathoflow.errors import InputError

CLASSES = (
    "title",
    "plain text",
    "abandon",
    "figure",
    "figure_caption",
    "table",
    "table_caption",
    "table_footnote",
    "isolate_formula",
    "formula_caption",
)
"""The ten classes of DocStructBench, in the order in which models trained on it number them."""

_KINDS = {
    "plain text": "text",
    "table_footnote": "table_caption",
    "isolate_formula": "equation",
    "formula_caption": "equation",
}
_INPUT_PX = 1024
_PADDING = 114


class YoloLayout:
    """Finds regions with a DocLayout-YOLO model, on one thread.

    Args:
        path: The ONNX file.
        confidence: Least confidence of a region.

    Raises:
        InputError: The file is missing, or no such model.
    """

    def __init__(self, path: Path, confidence: float) -> None:
        if not path.is_file():
            raise InputError(f"{path} does not exist. textbook_pairs.layout_model names the DocLayout-YOLO ONNX file.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"{path} is no ONNX model that can be run here: {error}") from error
        self._confidence = confidence
        entry = self._session.get_inputs()[0]
        self._input = entry.name
        # A model exported for any size states names in place of numbers.
        sides = [side if isinstance(side, int) else _INPUT_PX for side in entry.shape[2:]]
        outputs = self._session.get_outputs()
        if len(entry.shape) != 4 or len(sides) != 2 or len(outputs) != 1 or len(outputs[0].shape) != 3:
            raise InputError(f"{path} is no DocLayout-YOLO model: an image goes in, one list [1, N, 6] comes out.")
        self._height, self._width = sides
        self._classes = self._class_names(path)

    def find(self, page: Pixels) -> list[Region]:
        """Returns the regions of a page, the most certain first."""
        height, width = page.shape[:2]
        picture, scale, left, top = self._letterbox(page)
        (found,) = self._session.run(None, {self._input: picture})
        regions = []
        for x0, y0, x1, y1, confidence, number in np.asarray(found)[0].tolist():
            box = Box(x0 - left, y0 - top, x1 - left, y1 - top).scaled(1 / scale).clipped(width, height)
            if confidence >= self._confidence and min(box.width, box.height) > 0:
                regions.append(Region(self._kind(int(number), box, height), box, confidence))
        return sort_by_confidence(regions)

    def _letterbox(self, page: Pixels) -> tuple[NDArray[np.float32], float, int, int]:
        """Returns the page `[1, 3, H, W]` on grey, as in training; its scale, and its left and top edge."""
        height, width = page.shape[:2]
        scale = min(self._height / height, self._width / width)
        size = (round(width * scale), round(height * scale))
        left, top = (self._width - size[0]) // 2, (self._height - size[1]) // 2
        sheet = np.full((self._height, self._width, 3), _PADDING, dtype=np.uint8)
        resized = cv2.resize(page, size, interpolation=cv2.INTER_LINEAR)
        sheet[top : top + size[1], left : left + size[0]] = resized
        return sheet.transpose(2, 0, 1)[None].astype(np.float32) / 255.0, scale, left, top

    def _kind(self, number: int, box: Box, page_height: int) -> str:
        name = self._classes[number]
        if name == "abandon":
            # Running heads, foot lines and page numbers.
            return "header" if box.centre[1] < page_height / 2 else "footer"
        return _KINDS.get(name, name)

    def _class_names(self, path: Path) -> dict[int, str]:
        """Returns the classes that the model file lists, else the ten of DocStructBench."""
        facts = self._session.get_modelmeta().custom_metadata_map
        names = dict(enumerate(CLASSES))
        if "names" in facts:
            names = {int(number): str(name) for number, name in ast.literal_eval(facts["names"]).items()}
        elif "character" in facts:
            names = dict(enumerate(facts["character"].splitlines()))
        names = {number: name.replace("plain_text", "plain text") for number, name in names.items()}
        if unknown := sorted(set(names.values()) - set(CLASSES)):
            raise InputError(f"{path} tells apart {', '.join(unknown)}; a model trained on DocStructBench does not.")
        return names
