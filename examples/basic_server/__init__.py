"""A small web server in front of two tool services: the "old server" of the examples.

It has been there before anything was put in front of it, and knows of nothing in front of it.
It depends on the official ``mcp`` SDK only. Where to find what:

    __main__     command line: options, sockets, signals
    sockets      listening on every address of a host name
    app          the map: options -> backend -> MCP server -> routes
    backend      what the two fronts share: records, connections, ledger, counts, faults
    records      the rows of both services, with their seed
    connections  whether the two services are reachable
    salesforce   the tools of one service
    jira         the tools of the other
    tools        the table of tools, and the gate that each call goes through
    mcp_front    the same tools over MCP, with a resource and a prompt
    rest_front   the same tools over REST, with chat, status and health
    bodies       JSON bodies in, 422 out
    ledger       each create that was executed, in memory and on disk
    faults       what has been ordered to go wrong
    faulty_wire  makes it go wrong, for REST and MCP alike
    control      endpoints of the example only: ledger, counts, faults, services
    timestamps   the time, as ISO 8601
"""
