"""Finds and reads lines of text on a page by OCR."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.pixels import Pixels, as_lookup_table

_SAME_ROW = 0.6
_WORD_GAP = 0.4
_MAX_SIDE_PX = 2000


class Line(NamedTuple):
    """A line of text in coarse pixels of the upright page."""

    box: Box
    text: str


class TextReader:
    """Finds and reads Chinese and English text with the models that rapidocr's wheel holds, on one thread.

    Its detector and recogniser are asked directly: rapidocr as a whole cuts out every line that it finds, to be read
    or not, and looks up its settings for every line.
    """

    def __init__(self) -> None:
        import rapidocr
        from rapidocr.ch_ppocr_rec.typings import TextRecInput

        models = Path(rapidocr.__file__).parent / "models"
        ocr = rapidocr.RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Det.model_path": str(models / "PP-OCRv6_det_small.onnx"),
                "Rec.model_path": str(models / "PP-OCRv6_rec_small.onnx"),
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        self._as_input: Any = TextRecInput
        self._detector: Any = ocr._load_det_model()
        self._recognizer: Any = ocr._load_rec_model()
        preparation = self._detector.get_preprocess()
        preparation.normalize = as_lookup_table(preparation.normalize)
        self._detector.get_preprocess = lambda: preparation
        _use_single_argmax(self._recognizer)

    def find_lines(self, page: Pixels) -> list[Box]:
        """Finds the boxes of lines, words of one row joined, from top to bottom."""
        scale = min(_MAX_SIDE_PX / max(page.shape[:2]), 1.0)
        if scale < 1.0:
            page = np.asarray(cv2.resize(page, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        found = self._detector(np.ascontiguousarray(page[:, :, ::-1]))
        if found.boxes is None:
            return []
        quads = np.asarray(found.boxes, dtype=np.float64) / scale
        boxes = [Box(*map(float, (*quad.min(axis=0), *quad.max(axis=0)))) for quad in quads]
        return join_rows(boxes)

    def read(self, line: Pixels) -> tuple[str, float]:
        """Reads one line; returns its text and the confidence, 0..1.

        Lines are read one at a time: in a batch they would be padded to the widest, and a reading would depend
        on its neighbours.
        """
        if min(line.shape[:2]) < 4:
            return "", 0.0
        found = self._recognizer(self._as_input(img=[np.ascontiguousarray(line[:, :, ::-1])]))
        if not found.txts:
            return "", 0.0
        return str(found.txts[0]).strip(), float(found.scores[0])


def _use_single_argmax(recognizer: Any) -> None:
    """Makes it search 18 000 characters once for the best at each place; rapidocr does twice, 1 % of its time.

    Args:
        recognizer: rapidocr's recogniser, which this changes.
    """
    decoder = recognizer.postprocess_op

    def decode(scores: NDArray[np.float32], _words: bool, **_: Any) -> Any:
        best = scores.argmax(axis=2)
        chances = np.take_along_axis(scores, best[..., None], axis=2)[..., 0]
        return decoder.decode(best, chances, remove_duplicate=True)

    recognizer.postprocess_op = decode


def join_rows(boxes: list[Box]) -> list[Box]:
    """Joins boxes that stand in one row no farther apart than words, from top to bottom.

    >>> join_rows([Box(30, 0, 60, 10), Box(0, 1, 27, 11), Box(90, 0, 99, 10)])
    [Box(x0=0, y0=0, x1=60, y1=11), Box(x0=90, y0=0, x1=99, y1=10)]
    """
    rows: list[Box] = []
    for box in sorted(boxes):
        for at, row in enumerate(rows):
            near = box.x0 - row.x1 <= _WORD_GAP * min(box.height, row.height)
            if near and box.overlap_y(row) >= _SAME_ROW and box.overlap_x(row) < _SAME_ROW:
                rows[at] = union([row, box])
                break
        else:
            rows.append(box)
    return sorted(rows, key=lambda row: (row.y0, row.x0))
