"""Count wrong tokens per client, so that guessing one takes for ever."""

from collections import OrderedDict

# Wrong tokens that a client may show at once, and the seconds in which one of them is forgiven: a
# person mistypes, a scraper with an old token asks every 15 s; 600 guesses an hour find nothing.
TRIES = 10
_FORGIVEN = 6.0
# Clients with a wrong token to their name; those beyond share one count.
CLIENTS = 1024
_OTHERS = ""


class Guesses:
    """Tell who has to wait; times are seconds of one clock."""

    def __init__(self) -> None:
        # by client: when all of its wrong tokens will be forgiven, the longest unchanged first
        self._until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many clients are counted."""
        return len(self._until)

    def wait(self, client: str, now: float) -> float:
        """Return the seconds until a client may show a token, whether right or wrong; 0 is now."""
        until = self._until.get(self._name(client, now), 0.0)
        return max(0.0, until - now - (TRIES - 1) * _FORGIVEN)

    def wrong(self, client: str, now: float) -> None:
        """Take note of a wrong token."""
        name = self._name(client, now)
        self._until[name] = max(self._until.get(name, 0.0), now) + _FORGIVEN
        self._until.move_to_end(name)

    def _name(self, client: str, now: float) -> str:
        if client in self._until:
            return client
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return client if len(self._until) < CLIENTS else _OTHERS
