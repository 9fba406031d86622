"""Renders a small synthetic atlas of pathology: books, captioned images and the ground truth of both."""
