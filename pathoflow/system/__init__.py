"""Files, processes and memory of the machine."""
