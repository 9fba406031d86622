"""Turns textbook pages into panel–caption pairs with in-line references."""
