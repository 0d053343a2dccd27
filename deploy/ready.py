"""Exit 0 if the sidecar of this container is ready, else 1 and say why: its HEALTHCHECK.

The slim image has no curl, and urllib would ask the HTTP proxy that an engine may put into every
container's environment.
"""  # noqa: INP001 - a script that is copied into the image

import http.client
import os
import sys

# Where to knock when it listens everywhere.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


def trouble() -> str | None:
    """Return why it is not ready, or None."""
    host = os.environ.get("MCP_HOST") or "127.0.0.1"  # noqa: TID251 - the container's own settings
    port = int(os.environ.get("MCP_OPS_PORT") or os.environ.get("MCP_PORT") or 8000)  # noqa: TID251
    connection = http.client.HTTPConnection(LOOPBACK.get(host, host), port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"/readyz: {error!r}"
    return None if status == http.client.OK else f"/readyz: {status}"


if __name__ == "__main__":
    sys.exit(trouble())
