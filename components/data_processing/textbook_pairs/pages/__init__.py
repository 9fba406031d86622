"""Pages of books: the files that hold them, rendered upright, without shadows and dust."""
