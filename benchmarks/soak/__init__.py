"""Let everything go wrong for a long time, and see whether promises hold and whether anything grows.

    make soak MINUTES=30        (or: .venv/bin/python -m benchmarks.soak 30)

One sidecar as an operator starts it, in a process of its own, with a real Redis; a server behind it
in a process of its own, which is killed, stopped and started again and writes what it executes into
a file; and clients of every kind, well-behaved and not. docs/reliability.md has the method.
"""
