"""The rows behind the tools: two shelves in memory, the same at every start."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SALESFORCE_SEED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Account", {"name": "Acme Corporation", "industry": "Manufacturing", "revenue": 12_000_000}),
    ("Account", {"name": "Globex", "industry": "Energy", "revenue": 48_000_000}),
    ("Account", {"name": "Initech", "industry": "Software", "revenue": 3_500_000}),
    ("Account", {"name": "Umbrella Health", "industry": "Healthcare", "revenue": 91_000_000}),
    ("Contact", {"name": "Ada Byron", "account": "Acme Corporation"}),
    ("Contact", {"name": "Peter Gibbons", "account": "Initech"}),
    ("Opportunity", {"name": "Globex renewal", "account": "Globex", "stage": "Negotiation"}),
)
JIRA_SEED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Issue", {"summary": "Login page is slow", "project": "OPS", "status": "To Do"}),
    ("Issue", {"summary": "Printer on fire", "project": "OPS", "status": "In Progress"}),
    ("Issue", {"summary": "Export misses the last row", "project": "OPS", "status": "Done"}),
)
# The key prefixes by which Salesforce tells its object types apart; a00 is the first custom one.
SALESFORCE_PREFIXES = {"Account": "001", "Contact": "003", "Opportunity": "006"}


@dataclass(frozen=True, slots=True)
class Record:
    """One row: what it is, what it is called, what it holds."""

    id: str
    object: str
    fields: dict[str, Any]

    def flat(self) -> dict[str, Any]:
        """Return the row as one JSON object; a field cannot hide the id or the object type."""
        return {**self.fields, "id": self.id, "object": self.object}

    def mentions(self, word: str) -> bool:
        """Tell whether the object type, the id or a text field contains the word."""
        texts = [self.object, self.id, *(v for v in self.fields.values() if isinstance(v, str))]
        return any(word.lower() in text.lower() for text in texts)


class Shelf:
    """Keep the records of one service in the order in which they came."""

    def __init__(
        self, named: Callable[[str, int], str], seed: tuple[tuple[str, dict[str, Any]], ...]
    ) -> None:
        self._named = named
        self._records: list[Record] = []
        for kind, fields in seed:
            self.add(kind, fields)

    def __len__(self) -> int:
        return len(self._records)

    def add(self, kind: str, fields: dict[str, Any]) -> Record:
        """Put a new record at the end and give it its id."""
        record = Record(self._named(kind, len(self._records) + 1), kind, dict(fields))
        self._records.append(record)
        return record

    def all(self) -> list[Record]:
        """Return every record."""
        return list(self._records)

    def of(self, kind: str) -> list[Record]:
        """Return the records of one object type, in any case of letters."""
        return [record for record in self._records if record.object.lower() == kind.lower()]

    def find(self, record_id: str) -> Record | None:
        """Return the record with this id, if there is one."""
        return next((record for record in self._records if record.id == record_id), None)


def salesforce_shelf() -> Shelf:
    """Return the accounts, contacts and opportunities that every start begins with."""
    return Shelf(
        lambda kind, number: f"{SALESFORCE_PREFIXES.get(kind, 'a00')}{number:012d}", SALESFORCE_SEED
    )


def jira_shelf() -> Shelf:
    """Return the issues that every start begins with."""
    return Shelf(lambda _, number: f"OPS-{number}", JIRA_SEED)
