"""Coverage that does not depend on luck."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Do not trace what hypothesis thinks up: it would cover a line in one run and not in the next.

    Nor would it be cheap: tracing doubles the time of tests that do much.
    """
    for item in items:
        if item.get_closest_marker("hypothesis"):
            item.add_marker("no_cover")
