"""Turns a public image folder with a CSV into image–caption pairs."""
