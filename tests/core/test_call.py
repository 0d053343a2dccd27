"""The one thing in a Call or a Reply that lives: a body that arrives in pieces."""

from collections.abc import AsyncIterator

import pytest

from mcp_proxy.core.call import Pieces, Stream


class Source:
    """Pieces with a diary: who ended, and when."""

    def __init__(self, *pieces: bytes) -> None:
        self.diary: list[str] = []
        self._pieces = pieces

    async def pieces(self) -> Pieces:
        try:
            for piece in self._pieces:
                yield piece
        finally:
            self.diary.append("pieces")

    async def release(self) -> None:
        self.diary.append("release")

    def stream(self) -> Stream:
        return Stream(self.pieces(), self.release)

    def loud(self, name: str, *, fails: bool = False) -> "Loud":
        return Loud(self.diary, name, fails=fails)


class Loud:
    """A wrap that shouts, and says when it ends."""

    def __init__(self, diary: list[str], name: str, *, fails: bool) -> None:
        self._diary = diary
        self._name = name
        self._fails = fails

    async def __call__(self, pieces: Pieces) -> Pieces:
        try:
            async for piece in pieces:
                yield piece.upper() + self._name.encode()
        finally:
            self._diary.append(self._name)
            if self._fails:
                raise RuntimeError(self._name)


async def collected(pieces: AsyncIterator[bytes]) -> list[bytes]:
    return [piece async for piece in pieces]


async def test_a_later_wrap_stands_outside_an_earlier_one() -> None:
    source = Source(b"a", b"b")
    stream = source.stream()
    stream.wrap(source.loud("1"))
    stream.wrap(source.loud("2"))
    assert await collected(stream) == [b"A12", b"B12"]


async def test_a_stream_that_is_left_in_the_middle_ends_from_the_outside_in() -> None:
    """House style section 5: permits and metrics of a stream end once, whoever leaves."""
    source = Source(b"a", b"b")
    stream = source.stream()
    stream.wrap(source.loud("1"))
    stream.wrap(source.loud("2"))
    stream.on_end(lambda: source.diary.append("told first"))
    stream.on_end(lambda: source.diary.append("told second"))
    assert await anext(aiter(stream)) == b"A12"
    await stream.aclose()
    assert source.diary == ["2", "1", "pieces", "release", "told first", "told second"]


async def test_a_stream_that_was_never_read_releases_what_is_under_it() -> None:
    source = Source(b"a")
    stream = source.stream()
    stream.on_end(lambda: source.diary.append("told"))
    await stream.aclose()
    assert source.diary == ["release", "told"]


async def test_closing_again_repeats_nothing() -> None:
    source = Source()
    stream = source.stream()
    stream.on_end(lambda: source.diary.append("told"))
    await stream.aclose()
    await stream.aclose()
    assert source.diary == ["release", "told"]


async def test_a_wrap_that_fails_to_end_keeps_neither_the_connection_nor_the_permits() -> None:
    """F46: what is not released here is never released."""
    source = Source(b"a")
    stream = source.stream()
    stream.wrap(source.loud("1", fails=True))
    stream.on_end(lambda: source.diary.append("told"))
    await anext(aiter(stream))
    with pytest.raises(RuntimeError):
        await stream.aclose()
    assert source.diary == ["1", "pieces", "release", "told"]


async def test_a_stream_without_a_release_ends_too() -> None:
    source = Source(b"a")
    stream = Stream(source.pieces())
    assert await collected(stream) == [b"a"]
    await stream.aclose()
    assert source.diary == ["pieces"]
