"""A small server to stand in front of, for `mcp-sidecar demo`; the standard library is all it needs."""
