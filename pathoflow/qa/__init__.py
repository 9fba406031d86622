"""Questions, their prompts and the scores of their answers."""
