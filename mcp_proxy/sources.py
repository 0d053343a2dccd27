"""Where settings come from: flags > environment > file > defaults.

Every wrong value is reported at once, with its key, where it came from, what was got, what was
expected, and the nearest known key.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from mcp_proxy.settings import Section, Settings, Tool, variables

PREFIX = "MCP_"
# Read before the model is: it says where the file is.
FILE_VARIABLE = "MCP_CONFIG_FILE"
# Of a URL that cannot be used, what is scheme, host, port and path beyond doubt.
_HARMLESS_URL = re.compile(r"(\w+://)?[\w.-]*(:\d{1,6})?(/[\w./-]*)?")
_OTLP = "OTEL_EXPORTER_OTLP_"


class SettingsError(Exception):
    """Settings that cannot be used; `faults` holds one line for each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Loader:
    """Read the sources, in order of precedence, and remember where each value came from."""

    def __init__(
        self,
        flags: Mapping[str, Any],
        environ: Mapping[str, str],
        *,
        anew: bool = False,
    ) -> None:
        self._sources = (flags, environ)
        self._anew = anew  # what can be read only once, such as a pipe, is a fault then
        self._origins: dict[tuple[str, ...], str] = {}
        self._faults: list[str] = []
        self._known = variables()
        self.warnings: list[str] = []
        self._flags = self._flat_flags(flags)
        self._environment = self._read_environment(environ)
        file = flags.get(FILE_VARIABLE) or environ.get(FILE_VARIABLE)
        self._file = self._read_file(Path(file)) if file else {}

    def load(self) -> Settings:
        """Return the settings; raises SettingsError with every fault."""
        sources = (self._flags, self._environment, self._file or {})

        class Loaded(Settings):
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                *_: PydanticBaseSettingsSource,
                **__: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return tuple(
                    InitSettingsSource(settings_cls, init_kwargs=_nested(values))
                    for values in sources
                )

        try:
            settings = Loaded()  # type: ignore[call-arg]  # the sources bring what it needs
        except ValidationError as error:
            found = [fault for fault in error.errors() if not self._may_be_in_the_file(fault)]
            self._faults += [self._fault(fault) for fault in found]
        else:
            if not self._faults:
                return settings.remembering(
                    self._origins, lambda: Loader(*self._sources, anew=True).load()
                )
        raise SettingsError(self._faults)

    def _may_be_in_the_file(self, fault: Any) -> bool:
        """Tell whether what is missing may stand in a file that could not be read."""
        return self._file is None and fault["type"] in {"missing", "no_server"}

    def _flat_flags(self, flags: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
        values = {}
        for variable, value in flags.items():
            if value is not None and variable in self._known:
                path = self._known[variable]
                values[path] = value
                self._origins[path] = "command line"
        return cast("dict[tuple[str, ...], Any]", values)

    def _read_environment(self, environ: Mapping[str, str]) -> dict[tuple[str, ...], Any]:
        values: dict[tuple[str, ...], Any] = {}
        for variable, path in self._known.items():
            value = environ.get(variable)
            if not value and _is_secret(*path):
                value = self._secret(environ, f"{variable}_FILE")
            if value:  # an empty variable means the default, as Compose files leave them
                values[path] = value
                self._origins.setdefault(path, "environment")
        self.warnings += list(self._strangers(environ))
        _, warning = traces_wanted(environ)
        self.warnings += [warning] if warning else []
        return values

    def _secret(self, environ: Mapping[str, str], variable: str) -> str | None:
        file = environ.get(variable)
        if not file:
            return None
        try:
            secret = self._text(Path(file)).strip()
        except OSError as error:
            expected = f"a readable file ({error.strerror})"
        except ValueError:  # no UTF-8, or no name that a file can have
            expected = "a text file"
        else:
            if secret:
                return secret
            expected = "a file that is not empty"  # else what it guards would stand open
        self._faults.append(f"{variable} (environment): got {file!r}, expected {expected}")
        return None

    def _text(self, path: Path) -> str:
        if self._anew and path.exists() and not path.is_file():
            raise OSError(0, "it is a pipe or the like, which can be read only once")
        return path.read_text(encoding="utf-8")

    def _strangers(self, environ: Mapping[str, str]) -> Iterator[str]:
        secrets = {f"{name}_FILE" for name, path in self._known.items() if _is_secret(*path)}
        for variable in environ:
            known = variable in self._known or variable in secrets or variable == FILE_VARIABLE
            if variable.startswith(PREFIX) and not known:
                yield f"{variable} (environment): unknown variable{nearest(variable, self._known)}"

    def _read_file(self, path: Path) -> dict[tuple[str, ...], Any] | None:
        """Return what the file says; None if it cannot be read, which is a fault."""
        try:
            tables = tomllib.loads(self._text(path))
        except OSError as error:
            self._faults.append(
                f"{FILE_VARIABLE}: got {str(path)!r}, expected a readable file ({error.strerror})"
            )
            return None
        except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, nested too deep
            self._faults.append(f"{FILE_VARIABLE}: {path} is no TOML: {error}")
            return None
        values: dict[tuple[str, ...], Any] = {}
        for section, table in tables.items():
            if isinstance(table, dict) and section in Settings.model_fields:
                values |= {(section, key): value for key, value in table.items()}
            else:
                values[section,] = table
        for key in (*values, *((section,) for section in tables)):
            self._origins.setdefault(key, f"file {path}")
        return values

    def _fault(self, fault: Any) -> str:
        """Return one line for a fault that the model found."""
        where = tuple(str(part) for part in fault["loc"])
        path = where[:2]
        variable = next((name for name, known in self._known.items() if known == path), None)
        key = variable if variable and not self._from_file(path) else ".".join(where)
        if fault["type"] in {"missing", "no_server"}:
            return (
                "MCP_UPSTREAM_URL: missing; give the server's URL, such as http://localhost:9000, "
                "or its command in MCP_UPSTREAM_COMMAND"
            )
        if fault["type"] == "two_servers":
            return self._two_servers()
        if fault["type"] == "same_port":
            origin = self._origins.get(("server", "ops_port"))
            return f"MCP_OPS_PORT ({origin}): it is that of MCP_PORT, too; give it one of its own"
        if fault["type"] == "several_owners":
            return (
                f"MCP_WORKERS ({self._origins.get(('server', 'workers'))}): more than one, beside "
                "MCP_UPSTREAM_COMMAND, whose processes belong to one; leave MCP_WORKERS out"
            )
        origin = f" ({self._origins[path]})" if path in self._origins else ""
        if fault["type"] == "extra_forbidden":
            return f"{key}{origin}: unknown key{nearest(where[-1], _siblings(where))}"
        whole_table = len(path) == 1
        secret = whole_table or (variable is not None and _is_secret(*path))
        got = _shown(fault["input"], secret=secret)
        if fault["type"] == "tuple_type":
            return f"{key}{origin}: got {got}, expected a list, or one text with commas"
        message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
        return f"{key}{origin}: got {got}, expected {message}"

    def _two_servers(self) -> str:
        url, command = (self._origins.get(("upstream", key)) for key in ("url", "command"))
        return (
            f"MCP_UPSTREAM_URL ({url}) and MCP_UPSTREAM_COMMAND ({command}): both are set; "
            "a sidecar has one server, so leave one of them out"
        )

    def _from_file(self, path: tuple[str, ...]) -> bool:
        return self._origins.get(path, "").startswith("file")


def _shown(value: object, *, secret: bool) -> str:
    """Return a wrong value as it may be printed: tables may hold secrets, URLs passwords."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if secret and not (isinstance(value, str) and _HARMLESS_URL.fullmatch(value)):
        return "a secret"
    try:
        return repr(value)
    except ValueError:  # Python spells no integer beyond 4300 digits
        return "a very long number"


def _siblings(where: tuple[str, ...]) -> list[str]:
    """Return the keys that are known where an unknown one stands."""
    if len(where) == 1:
        return list(Settings.model_fields)
    if where[0] == "tools":
        return list(Tool.model_fields)
    return list(cast("type[Section]", Settings.model_fields[where[0]].annotation).model_fields)


def nearest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """Return "; did you mean …?" when a known name is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def traces_wanted(environ: Mapping[str, str]) -> tuple[bool, str]:
    """Tell whether the standard OTEL_* variables ask for traces; with a warning if we cannot.

    They do where they say where to, or name the exporter; an empty one is unset (OpenTelemetry,
    environment variables). The SDK's own default, a collector on this machine, would be a surprise.
    """

    def said(*names: str) -> str:
        return next((environ[name].strip().lower() for name in names if environ.get(name)), "")

    exporters = [name.strip() for name in said("OTEL_TRACES_EXPORTER").split(",") if name.strip()]
    asked = exporters or said(f"{_OTLP}TRACES_ENDPOINT", f"{_OTLP}ENDPOINT")
    if not asked or exporters == ["none"] or said("OTEL_SDK_DISABLED") == "true":
        return False, ""
    if exporters and "otlp" not in exporters:
        return False, "OTEL_TRACES_EXPORTER: only otlp is spoken here, so no trace is told"
    if said(f"{_OTLP}TRACES_PROTOCOL", f"{_OTLP}PROTOCOL") not in {"", "http/protobuf"}:
        return False, f"{_OTLP}PROTOCOL: only http/protobuf is spoken here, so no trace is told"
    return True, ""


def _is_secret(section: str, key: str) -> bool:
    field = cast("type[Section]", Settings.model_fields[section].annotation).model_fields[key]
    return "SecretStr" in str(field.annotation)


def _nested(values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Return values by path as tables in tables."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        table = nested
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = value
    return nested
