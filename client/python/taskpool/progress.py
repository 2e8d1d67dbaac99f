"""How far a map is, on a terminal or as lines of text."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 30
_BAR_SECONDS, _LINE_SECONDS = 0.1, 2.0


class Progress:
    """A bar that is redrawn in place on a terminal; elsewhere, in a notebook or a log, a line now and then."""

    def __init__(self, total: int, file: TextIO | None = None) -> None:
        self._total = total
        self._file = sys.stderr if file is None else file
        self._is_terminal = self._file.isatty()
        self._began = time.monotonic()
        self._shown_at = self._began
        self._done = 0
        self._has_shown = False

    def update(self, done: int) -> None:
        """`done` of the elements have their outcomes."""
        self._done = done
        now = time.monotonic()
        if now - self._shown_at >= (_BAR_SECONDS if self._is_terminal else _LINE_SECONDS):
            self._shown_at = now
            self._show(now)

    def close(self) -> None:
        if self._is_terminal or self._has_shown:
            self._show(time.monotonic())
            if self._is_terminal:
                print(file=self._file, flush=True)

    def _show(self, now: float) -> None:
        self._has_shown = True
        elapsed = now - self._began
        rate = self._done / elapsed if elapsed > 0 else 0.0
        left = (self._total - self._done) / rate if rate > 0 else 0.0
        share = self._done / self._total if self._total else 1.0
        text = f"{share:4.0%} {self._done}/{self._total} [{_clock(elapsed)}<{_clock(left)}, {rate:.1f}/s]"
        if self._is_terminal:
            filled = int(share * _WIDTH)
            print(f"\r|{'#' * filled}{' ' * (_WIDTH - filled)}| {text}\x1b[K", end="", file=self._file, flush=True)
        else:
            print(text, file=self._file, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
