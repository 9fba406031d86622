"""Imported first by the fork server of `data_workers`, for its effect: the server dies with the training process.

It would import for seconds after that process's end, and then serve for as long as a worker lives.
"""

from pathoflow.system.processes import die_with_parent

die_with_parent()
