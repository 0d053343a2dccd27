"""FastMCP's own proxy in front of a server, in the environment of that package: PORT URL."""

import sys

from fastmcp.server import create_proxy

if __name__ == "__main__":
    create_proxy(sys.argv[2]).run(
        transport="http",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        stateless_http=True,
        json_response=True,
        log_level="ERROR",
        show_banner=False,
    )
