"""`/api/files`: the files of OpenHands' conversations, for stores that come over HTTP (issue 6, point 3).

Addresses name the file in their query, so that no proxy on the way tidies its path.
"""

from typing import Annotated
from uuid import UUID

from django.http import HttpResponse, JsonResponse
from ninja import Query, Router

from runs.api.token_auth import ApiRequest, TokenAuth
from runs.errors import Refused
from runs.exact import Json
from runs.models import Action, File
from runs.models.file import (
    LEASE,
    LONGEST_LEASE,
    NAMESPACE_LENGTH,
    PATH_BYTES,
    PATH_LENGTH,
    FileQuerySet,
    Lease,
    delete_files,
    give_lease_back,
    is_too_long,
    keep_lease,
    leads_elsewhere,
    take_lease,
    write_file,
)

router = Router(tags=["Files of OpenHands"])
may_view, may_write, may_delete = (
    TokenAuth(action) for action in (Action.VIEW, Action.SUBMIT, Action.DELETE)
)

type Namespace = Annotated[str, Query(description="The room that the file is in: a conversation's id.")]
type Path = Annotated[str, Query(description="From the room, as `events/a.json`; empty is all of it.")]
type Lock = Annotated[str | None, Query(description="The path of the lock under which this is written.")]
type Key = Annotated[UUID | None, Query(description="The key that the lock was taken with.")]
type LockKey = Annotated[UUID, Query(description="Of the client's own making, a new one for each lock.")]
type OldKey = Annotated[UUID | None, Query(description="Of the same lock, to be given back with this.")]
type Length = Annotated[int | None, Query(ge=0, lt=10**17, description="Its number, of OpenHands' event.")]
type Seconds = Annotated[
    float, Query(ge=0.1, le=LONGEST_LEASE, description="Ask again before they are over.")
]

_REFUSED = {
    "out of step": ("out_of_step", "The log of {} is not as long as its event says: read it anew."),
    "is a directory": ("is_a_directory", "{} is a folder: write to a path that is none."),
    "not a directory": ("not_a_directory", "A folder of {} is a file: write to another path."),
}


@router.get("/content", auth=may_view, summary="Read a file")
def read_file(request: ApiRequest, namespace: Namespace, path: Path) -> HttpResponse:
    """The bytes as they were written. A folder is 404, as what is missing."""
    _check(namespace, path)
    content = (
        File.objects.of(request.auth, namespace).filter(path=path).values_list("content", flat=True).first()
    )
    if content is None:
        raise Refused(404, "not_found", f"There is no file {path}.", "path")
    answer = HttpResponse(content, content_type="application/octet-stream")
    answer["Content-Disposition"] = "attachment"
    return answer


@router.put("/content", auth=may_write, summary="Write a file")
def put_file(
    request: ApiRequest,
    namespace: Namespace,
    path: Path,
    lock: Lock = None,
    key: Key = None,
    event: Length = None,
) -> HttpResponse:
    """Replaces the file at once by the body. Under a lock that another has taken since, 409 `lock_lost`.

    With `event`, the marker of the log's length moves along; 409 `out_of_step` where it does not say as much.
    """
    _check(namespace, path)
    if path == "":
        raise Refused(409, "is_a_directory", "An empty path is the whole room: name a file.", "path")
    said = write_file(request.auth.owner, namespace, path, request.body, _lease(lock, key), event)
    if said in _REFUSED:
        code, message = _REFUSED[said]
        raise Refused(409, code, message.format(path), "path")
    return _written(said, lock)


@router.delete("/content", auth=may_delete, summary="Delete a file or a folder")
def delete(
    request: ApiRequest, namespace: Namespace, path: Path, lock: Lock = None, key: Key = None
) -> HttpResponse:
    """A folder goes with all that is in it; an empty path is all of the room. What is missing is no error."""
    _check(namespace, path)
    return _written(delete_files(request.auth.owner, namespace, path, _lease(lock, key)), lock)


@router.get("/names", auth=may_view, summary="List a folder")
def list_names(request: ApiRequest, namespace: Namespace, path: Path = "") -> HttpResponse:
    """The names in the folder, folders with a slash at the end; of a file or of nothing, none."""
    return _data(list(_room(request, namespace, path).names_in(path)))


@router.get("/exists", auth=may_view, summary="Is a file or folder there?")
def exists(request: ApiRequest, namespace: Namespace, path: Path = "") -> HttpResponse:
    return _data(path == "" or _room(request, namespace, path).at(path).exists())


@router.post("/lock", auth=may_write, summary="Take a lock")
def take_lock(
    request: ApiRequest,
    namespace: Namespace,
    path: Path,
    key: LockKey,
    seconds: Seconds = LEASE,
    instead_of: OldKey = None,
) -> HttpResponse:
    """Gives the lengths of OpenHands' markers beside the path, which none but the holder moves.

    423 while another has the lock: ask again, at least every 0.2 seconds to keep your turn.
    """
    _check(namespace, path)
    marks = take_lease(request.auth.owner, namespace, Lease(path, key), seconds, instead_of)
    if marks is None:
        raise Refused(423, "locked", f"Somebody else holds the lock {path}: ask again.", "path")
    return _data({"marks": list(marks)})


@router.put("/lock", auth=may_write, summary="Keep a lock")
def keep_lock(
    request: ApiRequest, namespace: Namespace, path: Path, key: LockKey, seconds: Seconds = LEASE
) -> HttpResponse:
    """For so many seconds more; 409 `lock_lost` where another has taken it."""
    _check(namespace, path)
    if not keep_lease(request.auth.owner, namespace, Lease(path, key), seconds):
        raise _lock_lost(path)
    return _data("kept")


@router.delete("/lock", auth=may_write, summary="Give a lock back")
def give_lock_back(request: ApiRequest, namespace: Namespace, path: Path, key: LockKey) -> HttpResponse:
    """A lock that is not held with this key, any more or at all, is passed over."""
    _check(namespace, path)
    give_lease_back(request.auth.owner, namespace, Lease(path, key))
    return _data(None)


def _room(request: ApiRequest, namespace: str, path: str) -> FileQuerySet:
    _check(namespace, path)
    return File.objects.of(request.auth, namespace)


def _check(namespace: str, path: str) -> None:
    """Refuses what names no file; clients tidy paths before they send them."""
    if not 0 < len(namespace) <= NAMESPACE_LENGTH:
        raise Refused(422, "invalid", f"Give a namespace of 1 to {NAMESPACE_LENGTH} characters.", "namespace")
    if is_too_long(path):
        limit = f"Keep the path within {PATH_LENGTH} characters and {PATH_BYTES} bytes."
        raise Refused(422, "invalid", limit, "path")
    if path and leads_elsewhere(path):
        raise Refused(
            422, "invalid", "Give a path without '.', '..', and slashes at its ends or in a row.", "path"
        )


def _lease(lock: str | None, key: UUID | None) -> Lease | None:
    if (lock is None) != (key is None):
        raise Refused(422, "invalid", "Give lock and key together.", "key" if key is None else "lock")
    return Lease(lock, key) if lock is not None and key is not None else None


def _written(said: str, lock: str | None) -> HttpResponse:
    if said == "lock lost":
        raise _lock_lost(lock)
    return _data(said)


def _lock_lost(lock: str | None) -> Refused:
    return Refused(409, "lock_lost", f"The lock {lock} is not held with this key: nothing was done.", "key")


def _data(data: Json) -> JsonResponse:
    return JsonResponse({"data": data})
