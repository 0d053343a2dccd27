"""OAuth's resource metadata (RFC 9728) under our own address, where the operator asks for it.

Clients compare the metadata's `resource` with the URL they dialled. What cannot be mended here is
the token's audience, the server's own URL: the better way is to tell the server its public URL.
"""

import re

import orjson

from mcp_proxy.core.addresses import Address

WELL_KNOWN = "/.well-known/oauth-protected-resource"
_RESOURCE_METADATA = re.compile(r'(\bresource_metadata\s*=\s*")([^"]*)(")', re.IGNORECASE)


class PublicUrl:
    """Say the server's URLs as clients of ours must say them (MCP_PUBLIC_URL)."""

    def __init__(self, url: str, address: Address) -> None:
        self._url = url.rstrip("/")
        self._address = address

    def _mapped(self, url: str) -> str:
        path = self._address.reversed(url)
        return url if path is None else self._url + path

    def challenge(self, value: str) -> str:
        """Return a `WWW-Authenticate` whose metadata can be fetched through us."""
        return _RESOURCE_METADATA.sub(
            lambda match: f"{match[1]}{self._mapped(match[2])}{match[3]}", value
        )

    def metadata(self, data: bytes) -> bytes:
        """Return a metadata document whose `resource` is the URL that clients dial."""
        try:
            document = orjson.loads(data)
        except ValueError:
            return data
        resource = document.get("resource") if isinstance(document, dict) else None
        if not isinstance(resource, str) or self._mapped(resource) == resource:
            return data
        return orjson.dumps({**document, "resource": self._mapped(resource)})
