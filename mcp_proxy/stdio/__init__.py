"""The bridge to a server that speaks over stdin and stdout: HTTP on one side, lines on the other.

It is a server like any other to the sidecar, and knows nothing of it (docs/stdio.md).
"""
