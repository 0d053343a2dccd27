"""Coverage and signals that do not depend on luck."""

import signal

import pytest

# A shell without job control has what it puts into the background ignore Ctrl-C (POSIX, 2.9.3.1), and
# so would all programs that tests start, some of which are to be ended by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Do not trace what hypothesis thinks up: it would cover a line in one run and not in the next.

    Nor would it be cheap: tracing doubles the time of tests that do much.
    """
    for item in items:
        if item.get_closest_marker("hypothesis"):
            item.add_marker("no_cover")
