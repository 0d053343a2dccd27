"""`python -m mcp_proxy.demo PORT`: serve until the process is ended."""

import sys

from mcp_proxy.demo.server import serve

serve(int(sys.argv[1]))
