"""What the REST front and the MCP front share."""

from dataclasses import dataclass, field

from examples.basic_server.connections import Connection
from examples.basic_server.faults import Faults
from examples.basic_server.ledger import Calls, Ledger
from examples.basic_server.records import Shelf, jira_shelf, salesforce_shelf


def _connections() -> dict[str, Connection]:
    return {service: Connection(service) for service in ("salesforce", "jira")}


@dataclass(slots=True)
class Backend:
    """Everything that one running server knows."""

    ledger: Ledger = field(default_factory=Ledger)
    salesforce: Shelf = field(default_factory=salesforce_shelf)
    jira: Shelf = field(default_factory=jira_shelf)
    connections: dict[str, Connection] = field(default_factory=_connections)
    calls: Calls = field(default_factory=Calls)
    faults: Faults = field(default_factory=Faults)
