"""Turns public data sets of captioned images into image–caption pairs."""
