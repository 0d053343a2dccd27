"""The one place that reads the clock."""

from datetime import UTC, datetime


def now() -> str:
    """Return the time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat()
