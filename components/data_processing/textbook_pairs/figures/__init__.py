"""Figures: pictures on a page, told from graphics, cut into panels that bear labels."""
