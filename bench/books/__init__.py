"""Generates textbooks with known pairs and in-line references, for measuring curation."""
