"""Generated textbooks with known panel–caption pairs and in-line references, for measuring what a curation finds."""
