"""JSON bodies in, and the 422 with which FastAPI servers refuse a bad one."""

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Body = TypeVar("Body", bound=BaseModel)


class BadBody(Exception):  # noqa: N818 - it is what it says
    """A body that is no JSON, or not the JSON that was asked for."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__("bad body")
        self.problems = problems


async def read_body(request: Request, model: type[Body]) -> Body:
    """Return the body as the model, whatever content type it claims to have."""
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        # Without the input, which need not be anything that JSON can quote.
        problems = json.loads(error.json(include_url=False, include_input=False))
        raise BadBody([{**p, "loc": ["body", *p["loc"]]} for p in problems]) from error


async def refuse_body(_: Request, error: Exception) -> Response:
    """Answer 422 with the list of problems under `detail`."""
    assert isinstance(error, BadBody)
    return JSONResponse({"detail": error.problems}, status_code=422)
