"""Begin a piece of work before deciding what it needs: most cache hits never wait at all."""

from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """Work that has run up to its first pause, in the caller's own task.

    Python 3.12 has eager tasks for this; here no task is made. `result` is there at once if there
    was no pause; else awaiting it goes on from there, once.
    """

    __slots__ = ("_pause", "_steps", "result")

    def __init__(self, work: Awaitable[T]) -> None:
        self._steps: Generator[Any, Any, T] = work.__await__()
        self.result: T | None = None
        try:
            self._pause = next(self._steps)
        except StopIteration as end:
            self.result = end.value

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait as the work waits; what is sent or thrown in here reaches it (PEP 380)."""
        pause = self._pause
        while True:
            thrown: BaseException | None = None
            sent: Any = None
            try:
                sent = yield pause
            except BaseException as error:  # noqa: BLE001 - a cancellation, too, is the work's
                thrown = error
            try:
                pause = self._steps.send(sent) if thrown is None else self._steps.throw(thrown)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                del thrown  # it holds this frame (core/errors, without_frames)

    def close(self) -> None:
        """Give up work that nobody awaits."""
        self._steps.close()
