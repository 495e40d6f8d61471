"""JSON-RPC 2.0 as Bindu's clients speak it: what a request is, and how it is refused (CONTRACTS.md 2.5)."""

from dataclasses import dataclass
from enum import IntEnum

from runs.api.once import encoded, raw
from runs.api.strict_json import JsonError, read_json
from runs.exact import Json

type RequestId = str | int


class Code(IntEnum):
    """Bindu's numbers. What is wrong with a task or context has one for all: its clients read the text."""

    UNREADABLE = -32700
    NO_SUCH_METHOD = -32601
    INTERNAL = -32603
    REFUSED = -32001
    UNSUPPORTED = -32004
    NO_TOKEN = -32009
    NO_SCOPE = -32013


class RpcError(Exception):
    """What a request is answered with instead of a result; `status` is HTTP's."""

    def __init__(self, code: Code, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class Unreadable(RpcError):
    """The body is no request of ours: 400, and no id in the answer, whatever stood there."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.UNREADABLE, f"This request cannot be read: {message}.", status=400)


@dataclass(frozen=True, slots=True)
class RpcRequest:
    """`params` have the names that the client wrote, camelCase or snake_case."""

    id: RequestId
    method: str
    params: dict[str, Json]


def read_request(body: bytes) -> RpcRequest:
    """The request in `body`. Raises Unreadable.

    The id is a UUID for Bindu's clients, and any text or whole number for others, as JSON-RPC allows. A
    request without one would be done without an answer, and several at once could not each have their HTTP
    status: neither is taken, here as there.
    """
    try:
        sent = read_json(body)
    except JsonError as error:
        raise Unreadable(f"it is not JSON ({error})") from None
    if isinstance(sent, list):
        raise Unreadable("it is a batch; send one request at a time")
    if not isinstance(sent, dict):
        raise Unreadable("it is not an object")
    if sent.get("jsonrpc") != "2.0":
        raise Unreadable('jsonrpc must be "2.0"')
    if not isinstance(sent.get("id"), str | int) or isinstance(sent["id"], bool):
        raise Unreadable("id must be a text, such as a UUID, or a whole number; every request needs one")
    if not isinstance(sent.get("method"), str):
        raise Unreadable("method must be a text, such as tasks/get")
    params = sent.get("params", {})
    if not isinstance(params, dict):
        raise Unreadable("params must be an object")
    return RpcRequest(sent["id"], sent["method"], params)


def answer(request_id: RequestId, result: Json) -> bytes:
    return encoded({"jsonrpc": "2.0", "id": raw(request_id), "result": result})


def refusal(request_id: RequestId | None, error: RpcError) -> dict[str, Json]:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": error.code, "message": error.message}}
