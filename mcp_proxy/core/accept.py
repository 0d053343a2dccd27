"""Which of the forms that are offered an `Accept` header asks for (RFC 9110 section 12.5.1)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


class Form(NamedTuple):
    """A media type, and the version of it that is spoken."""

    media: str
    version: str = ""


JSON = Form("application/json")
TEXT = Form("text/plain", "0.0.4")
OPENMETRICS = Form("application/openmetrics-text", "1.0.0")


class _Range(NamedTuple):
    media: str
    version: str
    quality: float

    def precision(self, form: Form) -> int:
        """Return how exactly it names a form; 0 is not at all."""
        if self.media == form.media:
            return 3 if self.version in {"", form.version} else 0
        if self.media == f"{form.media.partition('/')[0]}/*":
            return 2
        return 1 if self.media == "*/*" else 0


def preferred(accept: str, offered: Sequence[Form]) -> Form | None:
    """Return what is asked for, or None if nothing of it is offered.

    Of what is wanted alike, what is named exactly comes before what is only included, and then what
    stands first in `offered`: `application/json, text/plain, */*` (axios) means JSON.
    """
    ranges = [found for one in accept.split(",") if (found := _read(one))]
    if not ranges:
        return offered[0]
    best, most = None, (0.0, 0)
    for form in offered:
        wanted = _wanted(form, ranges)
        if wanted[0] > 0 and wanted > most:
            best, most = form, wanted
    return best


def _wanted(form: Form, ranges: Sequence[_Range]) -> tuple[float, int]:
    """Return quality and precision: of the most precise ranges that include a form, the best."""
    precision = max(one.precision(form) for one in ranges)
    if not precision:
        return 0.0, 0
    return max(one.quality for one in ranges if one.precision(form) == precision), precision


def _read(said: str) -> _Range | None:
    """Return one range; what cannot be understood counts as absent."""
    media, *parameters = (part.strip().lower() for part in said.split(";"))
    named = dict(part.partition("=")[::2] for part in parameters)
    quality = named.get("q", "1")
    if not media or not _QUALITY.fullmatch(quality):
        return None
    return _Range(media, named.get("version", "").strip('"'), float(quality))
