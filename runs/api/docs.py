"""The OpenAPI page: what ninja cannot know by itself, and the page's own content policy."""

from collections.abc import Sequence
from typing import Any

from django.utils.csp import CSP
from django.views.decorators.csp import csp_override
from pydantic import BaseModel

# Swagger UI sets styles from its script; ours never do.
POLICY: dict[str, list[str]] = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF, CSP.UNSAFE_INLINE],
    "img-src": [CSP.SELF, "data:"],
    "connect-src": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
    "base-uri": [CSP.NONE],
    "form-action": [CSP.NONE],
}

with_docs_policy = csp_override(POLICY)


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` for a view that reads its body itself: ninja would turn every failure into 400."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    content = {"application/json": {"schema": _inlined(schema, definitions)}}
    return {"requestBody": {"required": True, "content": content}}


def form_of(files: Sequence[str], fields: Sequence[str] = ()) -> dict[str, Any]:
    """The same for a form with files. A field whose name ends in `?` may be left out; one whose name ends in
    `_file` is a file."""
    several = {name: {"type": "array", "items": _FILE} for name in files}
    single = {name.rstrip("?"): _FILE if "_file" in name else {"type": "string"} for name in fields}
    required = [name for name in (*files, *fields) if not name.endswith("?")]
    schema = {"type": "object", "properties": {**several, **single}, "required": required}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


_FILE = {"type": "string", "format": "binary"}


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """The schema with each `$ref` replaced by what it names: OpenAPI has no `$defs` there."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        named = definitions[node["$ref"].rpartition("/")[2]]
        return _inlined({**named, **{key: item for key, item in node.items() if key != "$ref"}}, definitions)
    return {key: _inlined(item, definitions) for key, item in node.items()}
