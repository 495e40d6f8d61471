"""What OpenHands expects of a file store, checked on one of ours with its own EventLog.

`openhands_store.py dsn|http ADDRESS TOKEN`: runs every check on a room of its own, and prints what failed as
JSON. Checks are the functions without an underscore; they take `make`, which opens the room once more.
"""

import hashlib
import json
import os
import sys
import threading
import time
import traceback
import uuid

os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", OPENHANDS_SUPPRESS_BANNER="1", LOG_LEVEL="ERROR")

from openhands.sdk.conversation.event_store import EventLog
from openhands.sdk.event import MessageEvent
from openhands.sdk.llm import Message, TextContent

from runfolio_client.openhands import HTTPFileStore, PostgreSQLFileStore

LOCK = "events/.eventlog.lock"


# ── Files ──────────────────────────────────────────────────────────────────
def a_file_comes_back_as_it_was(make):
    texts = [
        '{"b": 1e5, "a": "\\u0000 \\ud800", "n": 100000000000000000000}',
        "\U0001f600 é \r\n\t\x00 end",
        "",
        "x" * 5_000_000 + "\U0001f9ea",
    ]
    for number, text in enumerate(texts):
        make().write(f"events/{number}.json", text)
    for number, text in enumerate(texts):
        assert _sha(make().read(f"events/{number}.json")) == _sha(text), number


def bytes_are_text(make):
    make().write("a", "é".encode())
    assert make().read("a") == "é"
    _raises(UnicodeDecodeError, lambda: make().write("b", b"\xff"))
    assert not make().exists("b")


def a_write_replaces_the_whole_file(make):
    store = make()
    store.write("a", "long text")
    store.write("a", "x")
    assert make().read("a") == "x"


def what_is_missing_is_not_found(make):
    _raises(FileNotFoundError, lambda: make().read("base_state.json"))
    assert not make().exists("a")
    assert make().list("a") == []
    make().delete("a")


def a_folder_is_no_file(make):
    store = make()
    store.write("a/b", "x")
    _raises(FileNotFoundError, lambda: store.read("a"))
    _raises(IsADirectoryError, lambda: store.write("a", "x"))
    _raises(NotADirectoryError, lambda: store.write("a/b/c", "x"))
    _raises(IsADirectoryError, lambda: store.write("", "x"))


def a_list_has_what_is_in_the_folder(make):
    store = make()
    for path in ("a/b/c.txt", "a/b/d.txt", "a/d.txt", "ab.txt"):
        store.write(path, "x")
    assert sorted(store.list("a")) == ["a/b/", "a/d.txt"]
    assert sorted(store.list("a/")) == ["a/b/", "a/d.txt"]
    assert sorted(store.list("")) == ["a/", "ab.txt"]
    assert store.list("ab.txt") == ["ab.txt"]
    assert sorted(store.list("/a")) == ["/a/b/", "/a/d.txt"]
    assert make().list("") and make().exists("")


def files_and_folders_exist(make):
    store = make()
    store.write("a/b.txt", "x")
    assert all(store.exists(path) for path in ("a", "a/", "a/b.txt", "/a/b.txt", "", "a//b.txt"))
    assert not any(store.exists(path) for path in ("b.txt", "a/b", "a/b.txt/c"))


def deleting_a_folder_leaves_its_neighbours(make):
    store = make()
    for path in ("a/b", "a/c/d", "ab.txt", "a.txt"):
        store.write(path, "x")
    store.delete("a")
    assert sorted(make().list("")) == ["a.txt", "ab.txt"]


def nothing_leads_out_of_the_store(make):
    store = make()
    for path in ("../a", "a/../../b", "..", "a/b/../../../c", "..\\a"):
        for ask in (store.read, store.delete, store.list, store.exists, lambda at: store.write(at, "x")):
            _raises(ValueError, lambda ask=ask, path=path: ask(path))


def paths_have_many_spellings(make):
    store = make()
    for path in ("a//b", "/a/b", "a/../a/b", "a\\b", "./a/b", "a/b/"):
        store.write("a/b", "x")
        assert store.read(path) == "x", path
        store.delete(path)
        assert not store.exists("a/b"), path


def paths_are_plain_text(make):
    store = make()
    for path in ("a%b", "a_b", "a b?&#", "é/ü", "\U0001f600", "100%25", "a'b\"c;--", "a" * 1000):
        store.write(path, path)
        assert store.read(path) == path
        assert store.exists(path)
        store.delete(path)
        assert not store.exists(path)
    _raises(ValueError, lambda: store.write("a" * 1001, "x"))
    _raises(ValueError, lambda: store.write("a\x00b", "x"))


def a_name_with_a_wildcard_is_nobody_elses(make):
    store = make()
    for path in ("a_b/x", "axb/x", "a%/x", "ab/x"):
        store.write(path, "x")
    store.delete("a_b")
    store.delete("a%")
    assert sorted(store.list("")) == ["ab/", "axb/"]


def every_file_has_a_place(make):
    assert make().get_absolute_path("a/../b").endswith("/b")


def rooms_are_apart(make):
    other = make().in_namespace(str(uuid.uuid4()))
    make().write("a", "x")
    assert other.list("") == []
    other.delete("")
    assert make().read("a") == "x"


def a_closed_store_opens_again(make):
    with make() as store:
        store.write("a", "x")
    assert store.read("a") == "x"


def a_forked_process_has_connections_of_its_own(make):
    store = make()
    store.write("a", "x")
    child = os.fork()
    if child == 0:
        try:
            store.write("b", store.read("a"))
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.read("b") == "x"


# ── Locks ──────────────────────────────────────────────────────────────────
def a_lock_is_held_by_one(make):
    with make().lock(LOCK):
        began = time.monotonic()
        error = _raises(TimeoutError, lambda: make().lock(LOCK, timeout=0.3).__enter__())
        assert str(error) == f"Lock acquisition timed out: {LOCK}"
        assert 0.2 < time.monotonic() - began < 5
    with make().lock(LOCK, timeout=5):
        pass


def a_lock_is_of_its_path_and_room(make):
    with make().lock(LOCK), make().lock("other", timeout=2):
        pass
    with make().lock(LOCK), make().in_namespace(str(uuid.uuid4())).lock(LOCK, timeout=2):
        pass


def a_lock_is_given_back_after_an_error(make):
    try:
        with make().lock(LOCK):
            raise KeyError
    except KeyError:
        pass
    with make().lock(LOCK, timeout=5):
        pass


def threads_of_one_store_wait_for_each_other(make):
    store, inside, most = make(), [], []

    def enter():
        with store.lock(LOCK):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    _in_threads([enter] * 8)
    assert len(most) == 8 and max(most) == 1


def what_the_holder_writes_is_seen_by_all(make):
    store = make()
    with store.lock(LOCK):
        store.write("events/a", "x")
        assert store.read("events/a") == make().read("events/a") == "x"
        assert store.list("events") == ["events/a"]
        store.delete("events/a")
        assert not store.exists("events/a") and not make().exists("events/a")


# ── The event log ──────────────────────────────────────────────────────────
def events_are_found_by_index_slice_and_id(make):
    log = EventLog(make())
    events = [_event(str(number)) for number in range(10)]
    assert [log.append(event) for event in events] == list(range(10))
    for seen in (log, EventLog(make())):
        assert len(seen) == 10
        assert [event.id for event in seen] == [event.id for event in events]
        assert [event.id for event in seen[2:8:2]] == [event.id for event in events[2:8:2]]
        assert seen[-1].id == events[9].id == seen.get_id(9)
        assert seen.get_index(events[4].id) == 4
        assert events[3].id in seen and "nobody" not in seen
        _raises(IndexError, lambda seen=seen: seen[10])
        _raises(KeyError, lambda seen=seen: seen.get_index("nobody"))


def an_event_is_written_once(make):
    log, event = EventLog(make()), _event("a")
    log.append(event)
    for one in (log, EventLog(make())):
        assert "already exists at index 0" in str(_raises(ValueError, lambda one=one: one.append(event)))
    assert len(EventLog(make())) == 1


def a_parent_must_be_there(make):
    log, event = EventLog(make()), _event("a")
    orphan = event.model_copy(update={"parent_id": str(uuid.uuid4())})
    assert "does not exist" in str(_raises(ValueError, lambda: log.append(orphan)))
    assert len(EventLog(make())) == 0
    first = _event("b")
    log.append(first)
    log.append(event.model_copy(update={"parent_id": first.id}))
    assert len(EventLog(make())) == 2


def the_marker_tells_the_length(make):
    store = make()
    log = EventLog(store)
    for length in range(1, 5):
        log.append(_event("x"))
        names = [path for path in make().list("events") if ".eventlog-len-" in path]
        assert names == [f"events/.eventlog-len-{length}.marker"]
        assert make().read(names[0]) == ""
        assert not store.exists(f"events/.eventlog-len-{length - 1}.marker")


def a_lost_marker_does_no_harm(make):
    log, other = EventLog(make()), EventLog(make())
    log.append(_event("a"))
    make().delete("events/.eventlog-len-1.marker")
    other.append(_event("b"))
    make().delete("events/.eventlog-len-2.marker")
    assert log.append(_event("c")) == 2
    assert len(EventLog(make())) == 3


def what_happens_beside_the_lock_is_seen(make):
    log, other = EventLog(make()), make()
    log.append(_event("a"))
    log.append(_event("b"))
    other.delete("events/.eventlog-len-2.marker")
    other.write(f"events/event-00002-{uuid.uuid4()}.json", "{}")
    assert log.append(_event("c")) == 3
    assert len(EventLog(make())) == 4


def a_marker_that_was_never_made_is_not_there(make):
    store = make()
    with store.lock(LOCK):
        assert not store.exists("events/.eventlog-len-0.marker")
        store.write("events/.eventlog-len-7.marker", "")
        assert store.exists("events/.eventlog-len-7.marker")
        store.delete("events/.eventlog-len-7.marker")
        assert not store.exists("events/.eventlog-len-7.marker")
    assert store.list("events") == []


def a_marker_may_hold_text(make):
    store = make()
    log = EventLog(store)
    log.append(_event("a"))
    with store.lock(LOCK):
        assert store.exists("events/.eventlog-len-1.marker")
        store.write("events/.eventlog-len-1.marker", "text")
        assert store.read("events/.eventlog-len-1.marker") == "text"
    assert make().read("events/.eventlog-len-1.marker") == "text"


def an_event_without_a_log_has_no_marker(make):
    store = make()
    with store.lock(LOCK):
        store.write(f"events/event-00000-{uuid.uuid4()}.json", "{}")
    store.write(f"events/event-00001-{uuid.uuid4()}.json", "{}")
    assert not any("marker" in path for path in store.list("events"))


def a_writer_sees_what_others_wrote(make):
    one, two = EventLog(make()), EventLog(make())
    for number in range(6):
        assert (one, two)[number % 2].append(_event(str(number))) == number
    assert len(EventLog(make())) == 6


def threads_append_without_a_gap(make):
    logs = [EventLog(make()) for _ in range(3)]
    _in_threads([lambda log=log: [log.append(_event("x")) for _ in range(10)] for log in logs])
    log = EventLog(make())
    assert len(log) == 30
    assert len({event.id for event in log}) == 30


def a_gap_ends_the_log(make):
    store = make()
    log = EventLog(store)
    for number in range(5):
        log.append(_event(str(number)))
    store.delete(next(path for path in store.list("events") if "event-00003-" in path))
    assert len(EventLog(make())) == 3


def a_removed_event_is_missed(make):
    store = make()
    log = EventLog(store)
    log.append(_event("a"))
    reopened = EventLog(make())
    store.delete(next(path for path in store.list("events") if "event-00000-" in path))
    _raises(FileNotFoundError, lambda: reopened[0])


def a_damaged_event_is_told(make):
    store = make()
    EventLog(store).append(_event("a"))
    store.write(next(path for path in store.list("events") if "event-00000-" in path), "{")
    _raises(ValueError, lambda: EventLog(make())[0])


def other_files_are_passed_over(make):
    store = make()
    store.write("events/notes.txt", "x")
    store.write("events/event-abc.txt", "x")
    log = EventLog(store)
    assert log.append(_event("a")) == 0
    assert len(EventLog(make())) == 1


def numbers_grow_beyond_five_digits(make):
    store, last = make(), [uuid.uuid4() for _ in range(2)]
    store.write(f"events/event-99999-{last[0]}.json", "{}")
    store.write(f"events/event-100000-{last[1]}.json", "{}")
    assert sorted(map(len, store.list("events"))) == sorted([len(path) for path in store.list("events")])
    assert store.exists(f"events/event-100000-{last[1]}.json")


def a_log_has_a_folder_of_its_choice(make):
    log = EventLog(make(), dir_path="other/log")
    log.append(_event("a"))
    log.append(_event("b"))
    assert len(EventLog(make(), dir_path="other/log")) == 2
    assert len(EventLog(make())) == 0


# ── Running them ───────────────────────────────────────────────────────────
def _event(text):
    return MessageEvent(source="user", llm_message=Message(role="user", content=[TextContent(text=text)]))


def _sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _raises(kind, step):
    try:
        step()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def _in_threads(steps):
    failed = []

    def run(step):
        try:
            step()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=[step]) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _maker(kind, address, token):
    name = str(uuid.uuid4())
    if kind == "dsn":
        return lambda: PostgreSQLFileStore(address, name)
    return lambda: HTTPFileStore(address, token, name)


def _main():
    failed = {}
    for name, check in list(globals().items()):
        if callable(check) and not name.startswith("_") and getattr(check, "__module__", "") == __name__:
            try:
                check(_maker(*sys.argv[1:4]))
            except BaseException:
                failed[name] = traceback.format_exc()
    print(json.dumps(failed))


if __name__ == "__main__":
    _main()
