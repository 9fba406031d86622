"""Wraps the machine's files, processes and memory."""
