"""The settings in force: each with its origin, and no secret among them; and what a file may say."""

import re
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from mcp_proxy.settings import Section, Settings, variables

MASK = "***"
_URL = re.compile(r"\w+://")


def effective(settings: Settings) -> dict[str, Any]:
    """Return every setting that has a variable, and the tables of the file that have none."""
    return {
        "settings": [_row(settings, variable, *path) for variable, path in variables().items()],
        "tools": {
            pattern: rule.model_dump(exclude_unset=True) for pattern, rule in settings.tools.items()
        },
        "failures": {"patterns": list(settings.failures.patterns)},
    }


def file_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file: nothing is required there, as variables may say it."""
    schema = Settings.model_json_schema()
    for table in (schema, *schema["$defs"].values()):
        table.pop("required", None)
    title = "The settings of mcp-sidecar (TOML)"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _row(settings: Settings, variable: str, section: str, key: str) -> dict[str, Any]:
    model = cast("type[Section]", Settings.model_fields[section].annotation)
    field = model.model_fields[key]
    return {
        "variable": variable,
        "key": f"{section}.{key}",
        "value": masked(getattr(getattr(settings, section), key)),
        "default": None if field.is_required() else masked(field.default),
        "origin": settings.origins.get((section, key), "default"),
        "text": field.description,
    }


def masked(value: object) -> object:
    """Return a value as it may be shown: of a secret URL what says where it leads, else nothing."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return _harmless(secret) if _URL.match(secret) else MASK
    if isinstance(value, tuple | list):
        return [masked(one) for one in value]
    if isinstance(value, str) and "://" in value:
        return _harmless(value)
    return value


def _harmless(url: str) -> str:
    """Return scheme, host, port and path of a URL; Redis takes a password in the query, too."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return MASK
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    user = f"{MASK}@" if "@" in parts.netloc else ""
    query = f"?{MASK}" if parts.query else ""
    return f"{parts.scheme}://{user}{host}{port}{parts.path}{query}"
