"""Defines and reads what stages exchange: schemas, images, the lexicon, checks of rows."""
