"""What each event says: JSON Schemas, published at /api/events/schema and in docs/events.md."""

from typing import Any

_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_COUNT = {"type": "integer", "minimum": 0}
_MAYBE_COUNT = {"type": ["integer", "null"], "minimum": 0}
_NUMBER = {"type": "number", "minimum": 0}
_KEYS = {"type": "array", "items": _TEXT}


def _text(meaning: str) -> dict[str, Any]:
    return {**_TEXT, "description": meaning}


def _one_of(*values: str | None) -> dict[str, Any]:
    return {"enum": list(values)}


_CALL = {
    "request_id": _text("of the call: its X-Request-Id"),
    "service": _text("behind the old server; REST only"),
    "tool": _text("or the method, of what is no tool call"),
}
_VERDICTS = ("ok", "tool_failed", "busy", "upstream_failed", "client_fault", "left")

# By name: what it means, its fields, and those that are not always there.
_EVENTS: dict[str, tuple[str, dict[str, Any], frozenset[str]]] = {
    "tool.call.completed": (
        "A tool call has ended, hits too.",
        {
            **_CALL,
            "dialect": _one_of("mcp", "rest"),
            "verdict": _one_of(*_VERDICTS),
            "status": {**_MAYBE_COUNT, "description": "null: the caller left before an answer"},
            "code": {**_MAYBE_TEXT, "description": "of an error that the sidecar made"},
            "cache": _one_of(
                *("hit", "stale", "miss", "expired", "collapsed", "bypass", "request", "method")
            ),
            "attempts": {**_COUNT, "description": "tries that went out; 0: none was needed"},
            "upstream": _text("the target that was asked last"),
            "duration_ms": _NUMBER,
            "arguments": _text("cut and redacted; with MCP_CAPTURE=redacted only"),
        },
        frozenset({"arguments"}),
    ),
    "upstream.state_changed": (
        "A target came, went, or is thought (un)healthy.",
        {
            "target": _TEXT,
            "before": _one_of("unknown", "present", "restarting", "lost", "healthy", "unhealthy"),
            "after": _one_of("present", "restarting", "lost", "healthy", "unhealthy"),
            "reason": _text("why it is unhealthy or lost, if a probe has found out"),
        },
        frozenset({"reason"}),
    ),
    "child.started": (
        "A process of MCP_UPSTREAM_COMMAND runs.",
        {"command": _text("the program, without its arguments"), "pid": _COUNT},
        frozenset(),
    ),
    "child.ended": (
        "A process of MCP_UPSTREAM_COMMAND has ended: its session is over, or it has failed.",
        {
            "pid": _COUNT,
            "exit_code": {"type": ["integer", "null"], "description": "negative: of a signal"},
            "expected": {"type": "boolean", "description": "we have ended it"},
            "lived_seconds": _NUMBER,
            "lines_ignored": {**_COUNT, "description": "on its stdout that were no message"},
        },
        frozenset(),
    ),
    "child.not_started": (
        "MCP_UPSTREAM_COMMAND cannot be started.",
        {"reason": _TEXT, "pause_seconds": {**_NUMBER, "description": "until the next try"}},
        frozenset(),
    ),
    "child.line_ignored": (
        "A process wrote to its stdout what is no message; told once, the rest is counted.",
        {"pid": _COUNT, "reason": _one_of("no message", "too long")},
        frozenset(),
    ),
    "circuit.state_changed": (
        "A circuit has opened, lets a probe through, or has closed.",
        {
            "circuit": _TEXT,
            "before": _one_of("closed", "open", "half_open"),
            "after": _one_of("closed", "open", "half_open"),
        },
        frozenset(),
    ),
    "retry.scheduled": (
        "A try failed or takes long, and another follows.",
        {
            **_CALL,
            "method": _TEXT,
            "attempt": {**_COUNT, "description": "the number of the try that failed"},
            "wait_ms": _COUNT,
            "reason": {"type": ["string", "integer"], "description": "an error's code or a status"},
            "target": _text("from which the call moves on"),
        },
        frozenset({"target"}),
    ),
    "cache.invalidated": (
        "Stored answers count no more.",
        {
            **_CALL,
            "reason": _one_of("write", "fate unknown", "the server spoke on a stream"),
            "entries": _COUNT,
        },
        frozenset({"request_id", "service", "tool", "entries"}),
    ),
    "cache.cleared": (
        "Somebody has emptied the cache.",
        {"scope": _TEXT, "entries": {**_MAYBE_COUNT, "description": "null: unknown"}},
        frozenset(),
    ),
    "session.recovered": (
        "A session was opened again that the server had forgotten.",
        {"request_id": _TEXT, "messages": _COUNT},
        frozenset(),
    ),
    "session.recovery_failed": (
        "A session could not be opened again.",
        {"request_id": _TEXT, "messages": _COUNT},
        frozenset(),
    ),
    "ratelimit.rejected": (
        "A call came too often.",
        {**_CALL, "limit": _TEXT, "retry_after_ms": _COUNT},
        frozenset(),
    ),
    "load.shed": (
        "A call found no place and was not sent.",
        {**_CALL, "reason": _TEXT, "in_flight": _COUNT, "waiting": _COUNT},
        frozenset(),
    ),
    "error.aggregated": (
        "Equal errors of one window.",
        {
            "service": _TEXT,
            "tool": _TEXT,
            "code": _text("of an error that the sidecar made, else the verdict"),
            "upstream": _TEXT,
            "count": _COUNT,
            "first": {**_TEXT, "format": "date-time"},
            "last": {**_TEXT, "format": "date-time"},
            "request_id": _text("of the latest one"),
            "window_s": _NUMBER,
        },
        frozenset(),
    ),
    "store.state_changed": (
        "Redis is not to be used, or is again.",
        {
            "store": _TEXT,
            "before": _one_of("up", "down"),
            "after": _one_of("up", "down"),
            "reason": {**_MAYBE_TEXT, "description": "the trouble; null when it is over"},
        },
        frozenset(),
    ),
    "store.write_back_lost": (
        "Answers were not written to Redis.",
        {"reason": _TEXT, "entries": _COUNT},
        frozenset({"entries"}),
    ),
    "proxy.started": (
        "The sidecar listens.",
        {
            "version": _TEXT,
            "urls": {"type": "array", "items": _TEXT},
            "upstream": _TEXT,
            "cache": _TEXT,
            "workers": {**_COUNT, "description": "processes that serve the port"},
            "ops_urls": {"type": "array", "items": _TEXT},
        },
        frozenset({"ops_urls"}),
    ),
    "worker.ended": (
        "One of several workers has died; it is started again.",
        {
            "worker": {**_COUNT, "description": "which one, from 0"},
            "reason": _text("its signal or exit code, or that it hung"),
            "lived_s": _NUMBER,
            "restart_s": {**_NUMBER, "description": "the pause before it is started again"},
        },
        frozenset(),
    ),
    "worker.started": (
        "A worker that had died serves again.",
        {"worker": {**_COUNT, "description": "which one, from 0"}},
        frozenset(),
    ),
    "proxy.draining": ("The sidecar is shutting down.", {"in_flight": _COUNT}, frozenset()),
    "proxy.failed": (
        "The sidecar made a mistake: please report it.",
        {
            "request_id": _TEXT,
            "method": _TEXT,
            "tool": _TEXT,
            "where": _text("of what was no call: main, a thread, a finaliser"),
            "exception": _text("its type; its text may hold anybody's data"),
            "traceback": _TEXT,
        },
        frozenset({"request_id", "method", "tool", "where", "exception", "traceback"}),
    ),
    "config.reloaded": (
        "The settings were read anew; keys only, no values.",
        {
            "changed": {**_KEYS, "description": "took effect"},
            "restart": {**_KEYS, "description": "differ, and need a restart"},
        },
        frozenset(),
    ),
    "config.warning": ("A setting deserves a look.", {"message": _TEXT}, frozenset()),
    "library.logged": (
        "A library or Python itself had something to say.",
        {"logger": _TEXT, "message": _TEXT, "exception": _MAYBE_TEXT, "traceback": _TEXT},
        frozenset({"exception", "traceback"}),
    ),
    "library.printed": (
        "A library has printed a line.",
        {
            "module": _MAYBE_TEXT,
            "stream": _one_of("stdout", "stderr"),
            "message": _text("withheld, unless it stands so in the code"),
            "characters": _COUNT,
        },
        frozenset(),
    ),
}


def names() -> list[str]:
    """Return the names of all events."""
    return list(_EVENTS)


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of one event; raises KeyError when there is none of that name."""
    meaning, fields, optional = _EVENTS[name]
    common = {
        "timestamp": {**_TEXT, "format": "date-time"},
        "level": _one_of("debug", "info", "warning", "error"),
        "event": {"const": name},
    }
    return {
        "title": name,
        "description": meaning,
        "type": "object",
        "properties": {
            **common,
            "id": _text("of the live stream, for Last-Event-ID; not in the log"),
            "replica": _text("the sidecar that tells it; only where it is another one"),
            "trace_id": _text("of W3C Trace Context, where the call has one"),
            **fields,
        },
        "required": [*common, *sorted(fields.keys() - optional)],
        "additionalProperties": False,
    }


def all_of_them() -> dict[str, Any]:
    """Return one JSON Schema that any event fits."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An event of mcp-sidecar",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in _EVENTS],
        "$defs": {name: schema(name) for name in _EVENTS},
    }
