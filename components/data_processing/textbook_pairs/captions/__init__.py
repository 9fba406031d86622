"""Captions: found among the lines of a page, parsed, and matched to pictures; and the references to them."""
