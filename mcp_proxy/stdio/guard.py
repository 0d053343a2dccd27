"""A process that outlives the sidecar for a moment, to end the children that it has left behind.

Started as a file of its own, without the package. It is told of each group of processes over a pipe:
`+17` when it begins, `-17` when it has ended. The pipe breaks when the sidecar is gone, also by
SIGKILL; then whatever is left gets SIGTERM and SIGKILL. Linux's PR_SET_PDEATHSIG would reach the
child alone and not what it has started (a shell, npx), and needs code between fork and exec, which
is not safe beside threads.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress

# Seconds: the end of its stdin asks a child to go (MCP 2025-11-25, lifecycle, shutdown), then signals.
_PATIENCE = 0.5
_LOOKS = 25


def told(lines: "list[bytes]", groups: "set[int]") -> None:
    """Take note of what begins and what ends."""
    for line in lines:
        if line[:1] == b"+":
            groups.add(int(line[1:]))
        else:
            groups.discard(int(line[1:]))


def end(groups: "set[int]") -> None:
    """End every group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        wait(groups)
        for group in groups:
            with suppress(OSError):  # it has gone meanwhile
                os.killpg(group, number)


def wait(groups: "set[int]") -> None:
    """Give the groups time to end by themselves."""
    for _ in range(_LOOKS):
        if not any(map(alive, groups)):
            return
        time.sleep(_PATIENCE / _LOOKS)


def alive(group: int) -> bool:
    """Tell whether somebody is left in a group."""
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def main(directory: str) -> None:
    """Read until the sidecar is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    rest = b""
    while piece := os.read(0, 4096):
        *lines, rest = (rest + piece).split(b"\n")
        told(lines, groups)
    end(groups)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
