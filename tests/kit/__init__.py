"""A server that does everything wrong on purpose, a ledger of what it did, a recorder before it.

    async with Upstream().running() as upstream, Recorder(upstream.port).running() as recorder:
        upstream.plays("jira_create_issue", Reset(executed=True), Status(503, retry_after=2))
        async with sidecar(recorder.url) as front:  # tests/edge/wire.py
            sent = Sent("nonce-1", "jira_create_issue", caller="Bearer ann")
            seen = see(sent, await front.ask(sent.rest()))  # or .stateless(), .mcp(session)
        assert check(upstream.ledger, [seen]) == []  # at most once, and `delivered` is true
        assert upstream.arrived["jira_create_issue"] == 1  # nothing was repeated
        assert recorder.violations() == []  # strict HTTP/1.1, whatever happened

Faults are in `faults` (connections), `damage` (answers) and `door` (before a byte is read).
"""
