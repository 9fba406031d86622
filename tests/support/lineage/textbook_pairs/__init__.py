"""Cuts pairs out of books: a line of a book is a pair."""
