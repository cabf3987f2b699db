"""What a person sees: one line per thing that became true, with the seconds since the command began."""

import os
import sys
import time

# A part of a command that runs inside goes on counting.
BEGAN = float(os.environ.setdefault("WEIR_CLUSTER_BEGAN", str(time.monotonic())))


class Trouble(Exception):
    """What went wrong and what to do about it, for a person; printed without a stack."""


def say(text):
    print(f"cluster: {time.monotonic() - BEGAN:6.1f} s  {text}", file=sys.stderr, flush=True)


def wait_until(condition, seconds, what, hint=""):
    """Waits for a condition that may also fail with OSError while the world is not there yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise Trouble(f"gave up waiting for {what} after {seconds} s" + (f"; {hint}" if hint else ""))
        time.sleep(0.1)
