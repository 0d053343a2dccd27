"""Run the command line with `python -m mcp_proxy`."""

from mcp_proxy.cli import main

if __name__ == "__main__":
    main()
