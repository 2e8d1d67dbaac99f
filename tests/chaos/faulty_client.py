#!/usr/bin/env python3
"""wire_client.py as a faulty daemon would treat it: what CHAOS_INJECT names happens to one of its frames."""

import collections
import os

import wire_client
from wire import Session

INJECT = os.environ["CHAOS_INJECT"]
AFTER = 30  # results that pass first


class FaultySession(Session):
    seen = 0
    again = collections.deque()

    def next_frame(self):
        if FaultySession.again:
            return FaultySession.again.popleft()
        frame = super().next_frame()
        if frame is not None and frame.op in ("result", "results"):
            FaultySession.seen += 1
            if FaultySession.seen == AFTER:
                if INJECT == "dropped":
                    return self.next_frame()
                FaultySession.again.append(frame)
        return frame


wire_client.Session = FaultySession

if __name__ == "__main__":
    wire_client.main()
