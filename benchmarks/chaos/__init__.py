"""Try to falsify what the sidecar promises for the day on which the server fails.

    make chaos        (or: .venv/bin/python -m benchmarks.chaos [--quick] [--only NAME])

Each scenario has a sidecar of its own, as production builds it, and a server of its own that does
everything wrong on purpose (tests/kit). All of them run in this one process, so that every open
descriptor and every task can be counted. docs/reliability.md has the method and the last results.
"""
