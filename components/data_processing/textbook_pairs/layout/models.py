"""Loads the layout model that a configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.config import TextbookPairsConfig
    from components.data_processing.textbook_pairs.layout.regions import LayoutModel


def layout_model(config: TextbookPairsConfig) -> LayoutModel:
    """Loads the layout model that a configuration names, for one thread.

    Raises:
        InputError: Its file is missing or no such model.
        ConfigError: A variable that it needs is not in the environment.
    """
    if config.layout == "doclayout_yolo":
        from components.data_processing.textbook_pairs.layout.doclayout_yolo import YoloLayout

        assert config.layout_model is not None, "the configuration checks this"
        return YoloLayout(config.layout_model, config.layout_confidence)
    if config.layout == "endpoint":
        from components.data_processing.textbook_pairs.layout.endpoint import EndpointLayout

        assert config.layout_endpoint is not None, "the configuration checks this"
        return EndpointLayout(config.layout_endpoint)
    from components.data_processing.textbook_pairs.layout.cdla import CdlaLayout

    return CdlaLayout(config.layout_confidence)
