"""Measures the memory of a process and all that it starts."""

from __future__ import annotations

import threading
import time

import psutil


class PeakMemory(threading.Thread):
    """Samples the memory of a process and its descendants; shared pages count once (PSS).

    Args:
        pid: The process, already running.
        interval_s: Time between two samples.
    """

    def __init__(self, pid: int, interval_s: float = 0.5) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._interval_s = interval_s
        self.peak_bytes = 0

    def run(self) -> None:
        """Samples until the process is gone."""
        while self._root.is_running():
            total = 0
            try:
                for process in [self._root, *self._root.children(recursive=True)]:
                    try:
                        total += process.memory_full_info().pss
                    except psutil.Error:
                        continue
            except psutil.NoSuchProcess:
                return
            self.peak_bytes = max(self.peak_bytes, total)
            time.sleep(self._interval_s)
