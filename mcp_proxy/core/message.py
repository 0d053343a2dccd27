"""What was said: the one message in a body that was understood, in whichever dialect."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard


class Dialect(StrEnum):
    """In which shape a caller speaks, and understands an error."""

    RPC = "mcp"
    REST = "rest"
    HTTP = "http"


class Message(NamedTuple):
    """A JSON-RPC message, a REST tool call, or nothing that we understand (the default)."""

    dialect: Dialect = Dialect.HTTP
    method: str = ""  # of JSON-RPC
    id: str | int | None = None  # of a JSON-RPC request
    params: Mapping[str, Any] = MappingProxyType({})  # REST: the whole body
    service: str = ""  # REST only: which server behind the old server
    tool: str = ""
    stateless: bool = False  # the 2026-07-28 era

    @property
    def named(self) -> str:
        """Return what it is counted under: its tool, its method, or the dialect of what is neither."""
        return self.tool or self.method or self.dialect

    @property
    def wants_answer(self) -> bool:
        """Tell whether a JSON answer must come that can be judged."""
        return self.dialect is Dialect.REST or self.id is not None

    @property
    def has_progress_token(self) -> bool:
        """Tell whether the answer's notifications belong to this caller's stream alone."""
        meta = self.params.get("_meta")
        return isinstance(meta, dict) and "progressToken" in meta


NOTHING = Message()

# Names become keys of circuits, counts and memos, which are bounded by number: a longer one is not
# read. The longest in the wild are below 128 (the specification advises that for tools).
_LONGEST_NAME = 256


def is_name(value: object) -> TypeGuard[str]:
    """Tell whether a method, service or tool name is a text of bearable length."""
    return isinstance(value, str) and len(value) <= _LONGEST_NAME
