"""Read a request's body: whole if it is small or must be understood, else as it comes."""

from aiohttp import web

from mcp_proxy.core.call import EMPTY, Pieces, Stream, Whole
from mcp_proxy.core.errors import BodyTooLargeError


async def read_body(
    request: web.BaseRequest, *, wanted: bool, buffer_limit: int, max_bytes: int
) -> Whole | Stream:
    """Return the body; raises BodyTooLargeError before the server is touched if it can.

    A client that waits for leave to send it (RFC 9110 section 10.1.1) gets it here, once nothing
    speaks against the request any more.

    `wanted` bodies are read whole up to `buffer_limit`, and so are others that say that they are
    small, or could still turn out too large. `max_bytes` of 0 is no limit.
    """
    if not request.body_exists:
        return EMPTY
    content = request.content
    held = min(buffer_limit, max_bytes or buffer_limit)
    if wanted and content.is_eof() and content.total_bytes <= held:
        return Whole(content.read_nowait())  # it came together with the head
    length = request.content_length
    if max_bytes and length is not None and length > max_bytes:
        raise too_large(max_bytes)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    refusable = 0 < max_bytes <= buffer_limit
    small = length <= buffer_limit if length is not None else wanted or refusable
    if not small:
        return _rest(request, [], 0, max_bytes)
    return await _small(request, length, buffer_limit, max_bytes)


async def _small(
    request: web.BaseRequest, length: int | None, buffer_limit: int, max_bytes: int
) -> Whole | Stream:
    pieces: list[bytes] = []
    size = 0
    while size != length and (piece := await request.content.readany()):
        pieces.append(piece)
        size += len(piece)
        if max_bytes and size > max_bytes:
            raise too_large(max_bytes)
        if size > buffer_limit:
            return _rest(request, pieces, size, max_bytes)
    return Whole(b"".join(pieces))


def _rest(request: web.BaseRequest, begun: list[bytes], size: int, max_bytes: int) -> Stream:
    async def pieces() -> Pieces:
        seen = size
        for piece in begun:
            yield piece
        while piece := await request.content.readany():
            seen += len(piece)
            if max_bytes and seen > max_bytes:
                # aiohttp wraps what is raised here; the reason is left where it can be found
                stream.failure = too_large(max_bytes)
                raise stream.failure
            yield piece

    stream = Stream(pieces())
    return stream


def too_large(limit: int) -> BodyTooLargeError:
    """Return the refusal of a body beyond the limit."""
    return BodyTooLargeError(f"The body is larger than {limit} bytes (MCP_MAX_BODY_BYTES).")
