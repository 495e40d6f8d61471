"""Bodies of JSON in agentevals' API, and how it says what is wrong with them (CONTRACTS.md 1.1)."""

from django.http import HttpRequest
from pydantic import BaseModel, ValidationError

from runs.api.strict_json import JsonError, read_json
from runs.exact import Json


class Unreadable(Exception):
    """The body is not what the path takes: `errors` say what is wrong where. It is answered with 422."""

    def __init__(self, errors: list[Json]) -> None:
        super().__init__("the body cannot be read")
        self.errors = errors


def read_body[Body: BaseModel](request: HttpRequest, model: type[Body]) -> Body:
    """Raises Unreadable."""
    try:
        return model.model_validate(read_json(request.body))
    except JsonError as error:
        raise Unreadable([json_invalid(error)]) from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise Unreadable([{**one, "loc": ["body", *one["loc"]]} for one in found]) from None


def json_invalid(error: JsonError) -> Json:
    return {
        "type": "json_invalid",
        "loc": ["body", error.position],
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": str(error)},
    }


def missing(name: str) -> Json:
    """A form lacks a field."""
    return {"type": "missing", "loc": ["body", name], "msg": "Field required", "input": None}
