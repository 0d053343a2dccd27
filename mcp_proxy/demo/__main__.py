"""`python -m mcp_proxy.demo PORT`: serve until the process is ended."""

import sys
from contextlib import suppress

from mcp_proxy.demo.server import serve

with suppress(KeyboardInterrupt):
    serve(int(sys.argv[1]))
