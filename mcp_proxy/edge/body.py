"""Read a request's body: whole if it is small or must be understood, else as it comes."""

from typing import NamedTuple

from aiohttp import web

from mcp_proxy.core.call import EMPTY, Delivery, Pieces, Stream, Whole
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.errors import BodyTooLargeError, OverloadedError, RequestTooSlowError


class Held:
    """Count the bytes of request bodies that are in memory, of all clients together.

    Each is bounded by MCP_BUFFER_LIMIT; as many as there are connections would be 25 GB.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.bytes = 0

    def fits(self, size: int) -> bool:
        """Tell whether so many more can be held."""
        return self.bytes + size <= self._limit

    def take(self, size: int) -> None:
        """Hold so many more; raises OverloadedError when that is too much."""
        if not self.fits(size):
            raise OverloadedError("Too much of what clients send is held (MCP_HELD_BYTES).")
        self.bytes += size

    def let_go(self, size: int) -> None:
        """Hold so many less."""
        self.bytes -= size


class Patience(NamedTuple):
    """What is taken of a body."""

    buffer_limit: int  # bytes that are held
    max_bytes: int  # 0 is no limit
    silence: float  # seconds between two pieces
    clock: Clock
    held: Held


async def read_body(
    request: web.BaseRequest, patience: Patience, *, wanted: bool
) -> Whole | Stream:
    """Return the body; raises BodyTooLargeError before the server is touched if it can.

    Raises RequestTooSlowError where it stops coming.

    A client that waits for leave to send it (RFC 9110 section 10.1.1) gets it here, once nothing
    speaks against the request any more.

    `wanted` bodies are read whole up to `buffer_limit`, and so are others that say that they are
    small, or could still turn out too large.
    """
    buffer_limit, max_bytes, *_ = patience
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
        return _rest(request, [], 0, patience)
    return await _small(request, length, patience)


async def _small(
    request: web.BaseRequest, length: int | None, patience: Patience
) -> Whole | Stream:
    buffer_limit, max_bytes, *_ = patience
    pieces: list[bytes] = []
    size = 0
    try:
        while size != length and (piece := await _next(request, patience)):
            patience.held.take(len(piece))
            pieces.append(piece)
            size += len(piece)
            if max_bytes and size > max_bytes:
                raise too_large(max_bytes)
            if size > buffer_limit:
                return _rest(request, pieces, size, patience)
    finally:  # whoever asked for it goes on to count it
        patience.held.let_go(size)
    return Whole(b"".join(pieces))


async def _next(request: web.BaseRequest, patience: Patience) -> bytes:
    try:
        async with patience.clock.timeout(patience.silence):
            return await request.content.readany()
    except TimeoutError:
        raise RequestTooSlowError(
            f"Nothing of the body came for {patience.silence:g} s (MCP_BODY_TIMEOUT)."
        ) from None


def _rest(request: web.BaseRequest, begun: list[bytes], size: int, patience: Patience) -> Stream:
    max_bytes = patience.max_bytes

    async def pieces() -> Pieces:
        seen = size
        for piece in begun:
            yield piece
        while True:
            # aiohttp wraps what is raised here; the reason is left where it can be found
            try:
                piece = await _next(request, patience)
            except RequestTooSlowError as error:
                # the server has had a part of it
                error.delivered = Delivery.UNKNOWN
                stream.failure = error
                raise
            if not piece:
                return
            seen += len(piece)
            if max_bytes and seen > max_bytes:
                stream.failure = too_large(max_bytes)
                raise stream.failure
            yield piece

    stream = Stream(pieces())
    return stream


def too_large(limit: int) -> BodyTooLargeError:
    """Return the refusal of a body beyond the limit."""
    return BodyTooLargeError(f"The body is larger than {limit} bytes (MCP_MAX_BODY_BYTES).")
