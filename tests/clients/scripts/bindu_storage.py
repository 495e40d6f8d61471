"""What a Storage must do (CONTRACTS.md 2.3), each behaviour a function that is given a fresh one.

`bindu_storage.py` prints {function: "passed" or why not} for RunfolioStorage; `bindu_storage.py memory` for
Bindu's InMemoryStorage and those functions that hold there as well.
"""

import asyncio
import json
import sys
import traceback
from uuid import UUID, uuid4

from bindu.server.storage.base import OwnershipError
from bindu.server.storage.memory_storage import InMemoryStorage

import runfolio_client.bindu
from runfolio_client import AnswerError
from runfolio_client.bindu import RunfolioStorage

runfolio_client.bindu._REFUSED = 0.01


def message(task_id=None, context_id=None, text="hello", **more):
    return {
        "kind": "message",
        "role": "user",
        "parts": [{"kind": "text", "text": text}],
        "message_id": uuid4(),
        "task_id": task_id or uuid4(),
        "context_id": context_id or uuid4(),
        **more,
    }


async def submitted(storage, context_id=None, caller=None, **more):
    said = message(context_id=context_id, **more)
    return await storage.submit_task(said["context_id"], said, caller_did=caller)


async def refused(kind, call, text=""):
    try:
        await call
    except kind as error:
        assert text in str(error), str(error)
        return
    raise AssertionError(f"{kind.__name__} was expected")


def texts(task):
    return [one["parts"][0]["text"] for one in task["history"]]


def ours(check):
    """InMemoryStorage does otherwise; CONTRACTS.md says why we do not."""
    check.ours = True
    return check


# ── Submitting ─────────────────────────────────────────────────────────────
async def test_a_new_task_holds_its_first_message(storage):
    said = message()
    task = await storage.submit_task(said["context_id"], said)
    assert task["id"] == said["task_id"] and task["context_id"] == said["context_id"]
    assert task["kind"] == "task" and task["status"]["state"] == "submitted"
    assert task["history"] == [said]
    assert "artifacts" not in task and "metadata" not in task


async def test_ids_as_text_become_uuids(storage):
    task_id, context_id, message_id, other = uuid4(), uuid4(), uuid4(), uuid4()
    said = message(str(task_id), str(context_id), message_id=str(message_id))
    said["reference_task_ids"] = [str(other), other]
    task = await storage.submit_task(str(context_id), said)
    assert (task["id"], task["context_id"]) == (task_id, context_id)
    assert task["history"][0]["message_id"] == message_id
    assert task["history"][0]["reference_task_ids"] == [other, other]
    assert (await storage.load_task(str(task_id)))["id"] == task_id


async def test_a_message_without_a_task_id_is_refused(storage):
    await refused(TypeError, storage.submit_task(uuid4(), {"role": "user"}))
    await refused(TypeError, storage.submit_task(uuid4(), message(12345)))


async def test_what_is_no_id_is_refused_by_its_name(storage):
    wanted = "task_id must be a valid UUID string, got 'zz'"
    await refused(TypeError, storage.load_task("zz"), wanted)
    await refused(TypeError, storage.update_task("zz", "working"), wanted)
    await refused(TypeError, storage.get_task_owner("zz"), wanted)
    await refused(TypeError, storage.load_task(None), "task_id cannot be None")
    await refused(TypeError, storage.submit_task("zz", message()), "context_id must be a valid UUID string")
    await refused(TypeError, storage.load_context("zz"), "context_id must be a valid UUID string, got 'zz'")
    await refused(TypeError, storage.clear_context(None), "context_id cannot be None")


async def test_an_open_task_continues_and_is_submitted_again(storage):
    task = await submitted(storage)
    await storage.update_task(task["id"], "input-required")
    again = await storage.submit_task(task["context_id"], message(task["id"], text="Paris"))
    assert again["id"] == task["id"] and again["status"]["state"] == "submitted"
    assert texts(again) == ["hello", "Paris"]


async def test_the_same_message_twice_is_twice_in_the_history(storage):
    said = message()
    await storage.submit_task(said["context_id"], dict(said))
    assert len((await storage.submit_task(said["context_id"], dict(said)))["history"]) == 2


async def test_an_ended_task_takes_no_message(storage):
    for state in ("completed", "failed", "canceled", "rejected"):
        task = await submitted(storage)
        await storage.update_task(task["id"], state)
        call = storage.submit_task(task["context_id"], message(task["id"]))
        text = f"Cannot continue task {task['id']}: Task is in terminal state '{state}' and is immutable."
        await refused(ValueError, call, text)


async def test_a_task_keeps_its_context(storage):
    task = await submitted(storage)
    again = await storage.submit_task(uuid4(), message(task["id"]))
    assert again["context_id"] == task["context_id"]


@ours
async def test_several_that_submit_one_new_task_at_once_all_append(storage):
    task_id, context_id = uuid4(), uuid4()
    each = [message(task_id, context_id, text=str(number)) for number in range(4)]
    await asyncio.gather(*(storage.submit_task(context_id, one) for one in each))
    assert sorted(texts(await storage.load_task(task_id))) == ["0", "1", "2", "3"]


# ── Loading ────────────────────────────────────────────────────────────────
async def test_what_never_was_is_none(storage):
    assert await storage.load_task(uuid4()) is None
    assert await storage.load_context(uuid4()) is None
    assert await storage.get_task_owner(uuid4()) is None
    assert await storage.get_context_owner(uuid4()) is None
    assert await storage.get_task_feedback(uuid4()) is None
    assert await storage.load_webhook_config(uuid4()) is None


async def test_an_empty_store_lists_nothing(storage):
    assert await storage.list_tasks() == []
    assert await storage.list_contexts() == []
    assert await storage.list_tasks_by_context(uuid4()) == []
    assert await storage.load_all_webhook_configs() == {}
    assert await storage.count_tasks() == 0


async def test_a_loaded_task_is_a_copy(storage):
    task = await submitted(storage)
    (await storage.load_task(task["id"]))["history"].append({"changed": True})
    assert len((await storage.load_task(task["id"]))["history"]) == 1


async def test_history_length_gives_the_last_messages(storage):
    task = await submitted(storage)
    for number in range(5):
        await storage.update_task(task["id"], "working", new_messages=[message(text=str(number))])
    lengths = {None: 6, 0: 6, 3: 3, 1: 1, 100: 6, -1: 6}
    for asked, there in lengths.items():
        assert len((await storage.load_task(task["id"], history_length=asked))["history"]) == there, asked
    assert texts(await storage.load_task(task["id"], 2)) == ["3", "4"]


async def test_a_thousand_messages_come_back_in_order(storage):
    task = await submitted(storage)
    said = [message(text=str(number)) for number in range(999)]
    await storage.update_task(task["id"], "working", new_messages=said)
    assert texts(await storage.load_task(task["id"])) == ["hello", *map(str, range(999))]


async def test_any_text_comes_back(storage):
    text = "NUL \x00, 😀, \u202e and \ud800"
    task = await submitted(storage, text=text, metadata={text: [2**64, 0.1, None, True]})
    await storage.update_task(
        task["id"],
        "completed",
        new_artifacts=[{"artifact_id": uuid4(), "name": text, "parts": [{"kind": "text", "text": text}]}],
        metadata={"note": text},
    )
    loaded = await storage.load_task(task["id"])
    assert texts(loaded) == [text]
    assert loaded["history"][0]["metadata"] == {text: [2**64, 0.1, None, True]}
    assert loaded["artifacts"][0]["name"] == text
    assert loaded["metadata"] == {"note": text}


# ── Updating ───────────────────────────────────────────────────────────────
async def test_an_update_moves_the_task_and_stamps_the_messages(storage):
    task = await submitted(storage)
    said = {"role": "agent", "kind": "message", "parts": [{"kind": "text", "text": "yes"}]}
    after = await storage.update_task(task["id"], "working", new_messages=[said])
    assert after["status"]["state"] == "working" and after["status"]["timestamp"].endswith("+00:00")
    assert after["history"][1]["task_id"] == task["id"]
    assert after["history"][1]["context_id"] == task["context_id"]


async def test_artifacts_are_appended_as_they_are(storage):
    task, same = await submitted(storage), uuid4()
    first = {"artifact_id": same, "name": "result", "parts": [{"kind": "text", "text": "1"}], "append": False}
    second = {"artifact_id": same, "name": "result", "parts": [{"kind": "text", "text": "2"}]}
    await storage.update_task(task["id"], "working", new_artifacts=[first])
    after = await storage.update_task(task["id"], "completed", new_artifacts=[second])
    assert after["artifacts"] == [first, second]


async def test_metadata_is_merged(storage):
    task = await submitted(storage)
    await storage.update_task(task["id"], "working", metadata={"one": 1, "two": {"a": 1}})
    after = await storage.update_task(task["id"], "working", metadata={"two": {"b": 2}})
    assert after["metadata"] == {"one": 1, "two": {"b": 2}}


async def test_any_word_is_a_state(storage):
    task = await submitted(storage)
    for state in ("auth-required", "payment-required", "suspended", "negotiation-bid-won", "unknown"):
        assert (await storage.update_task(task["id"], state))["status"]["state"] == state
        assert (await storage.load_task(task["id"]))["status"]["state"] == state


async def test_an_update_of_what_never_was_is_a_key_error(storage):
    await refused(KeyError, storage.update_task(uuid4(), "working"))


async def test_what_is_no_message_is_refused(storage):
    task = await submitted(storage)
    call = storage.update_task(task["id"], "working", new_messages=["invalid"])
    await refused(TypeError, call, "Message must be dict, got str")


@ours
async def test_an_ended_task_stays_as_it_is(storage):
    task = await submitted(storage)
    await storage.update_task(task["id"], "canceled")
    late = message(text="too late")
    after = await storage.update_task(
        task["id"], "completed", new_messages=[late], new_artifacts=[{"artifact_id": uuid4(), "parts": []}]
    )
    assert after["status"]["state"] == "canceled"
    assert texts(after) == ["hello"] and "artifacts" not in after


@ours
async def test_an_update_of_a_cleared_task_is_quiet(storage):
    task = await submitted(storage)
    await storage.clear_context(task["context_id"])
    after = await storage.update_task(task["id"], "completed", new_messages=[message(text="late")])
    assert after["id"] == task["id"]
    assert await storage.load_task(task["id"]) is None


@ours
async def test_a_state_is_written_however_often_runfolio_refuses(storage):
    """Bindu's worker says `failed` after an exception, and another one is its end."""
    task = await submitted(storage)
    refusing(storage, 500, 401, 200, 503)
    assert (await storage.update_task(task["id"], "failed"))["status"]["state"] == "failed"


@ours
async def test_an_answer_waits_until_token_and_proxy_are_good_again(storage):
    task = await submitted(storage)
    refusing(storage, 401, 403, 404, 200)
    after = await storage.update_task(task["id"], "completed", new_messages=[message(text="yes")])
    assert texts(after) == ["hello", "yes"]


@ours
async def test_an_answer_that_runfolio_does_not_take_is_an_error(storage):
    task = await submitted(storage)
    for status in (413, 422, 500):
        refusing(storage, status)
        call = storage.update_task(task["id"], "completed", new_messages=[message()])
        await refused(AnswerError, call, f"HTTP {status}")
    assert texts(await storage.load_task(task["id"])) == ["hello"]


def refusing(storage, *statuses):
    """The next calls are refused so, one after another."""
    perform, left = storage._client.perform, list(statuses)

    async def refuse(*args, **kwargs):
        if left:
            raise AnswerError("update_task", left.pop(0), "error", "Not now", None, None)
        return await perform(*args, **kwargs)

    storage._client.perform = refuse


async def test_fifty_appends_at_once_all_stay(storage):
    task = await submitted(storage)
    each = [
        storage.update_task(task["id"], "working", new_messages=[message(text=str(number))])
        for number in range(50)
    ]
    await asyncio.gather(*each)
    assert len((await storage.load_task(task["id"]))["history"]) == 51


async def test_of_ten_swaps_one_wins(storage):
    task = await submitted(storage)
    swaps = [storage.update_task_state_if(task["id"], "submitted", "canceled") for _ in range(10)]
    assert sorted(await asyncio.gather(*swaps)) == [False] * 9 + [True]
    assert (await storage.load_task(task["id"]))["status"]["state"] == "canceled"


async def test_a_swap_from_another_state_or_of_no_task_is_false(storage):
    task = await submitted(storage)
    assert await storage.update_task_state_if(task["id"], "working", "completed") is False
    assert await storage.update_task_state_if(uuid4(), "submitted", "working") is False
    assert (await storage.load_task(task["id"]))["status"]["state"] == "submitted"


# ── Listing ────────────────────────────────────────────────────────────────
async def test_lists_are_cut_by_length_and_offset(storage):
    context_id = uuid4()
    for number in range(5):
        await submitted(storage, context_id=context_id, text=str(number))
    for listed in (storage.list_tasks, lambda **window: storage.list_tasks_by_context(context_id, **window)):
        every = [texts(task) for task in await listed()]
        assert len(every) == 5
        windows = {(3, 0): every[:3], (None, 2): every[2:], (2, 1): every[1:3], (5, 4): every[4:], (2, 9): []}
        for (length, offset), wanted in windows.items():
            found = await listed(length=length, offset=offset)
            assert [texts(task) for task in found] == wanted, (length, offset)
        assert len(await listed(length=0)) == 5


@ours
async def test_tasks_and_contexts_come_newest_first(storage):
    tasks = [await submitted(storage, text=str(number)) for number in range(3)]
    assert [texts(task) for task in await storage.list_tasks()] == [["2"], ["1"], ["0"]]
    there = [context["context_id"] for context in await storage.list_contexts()]
    assert there == [task["context_id"] for task in reversed(tasks)]


async def test_tasks_of_a_context_come_oldest_first(storage):
    first = await submitted(storage)
    second = await submitted(storage, context_id=first["context_id"])
    await submitted(storage)
    found = await storage.list_tasks_by_context(first["context_id"])
    assert [task["id"] for task in found] == [first["id"], second["id"]]


async def test_more_tasks_than_one_answer_holds_are_all_listed(storage):
    context_id = uuid4()
    for start in range(0, 220, 20):
        each = [submitted(storage, context_id=context_id, text=str(start + one)) for one in range(20)]
        await asyncio.gather(*each)
    wanted = {str(number) for number in range(220)}
    assert {texts(task)[0] for task in await storage.list_tasks()} == wanted
    assert {texts(task)[0] for task in await storage.list_tasks_by_context(context_id)} == wanted
    assert len((await storage.load_context(context_id))["task_ids"]) == 220


async def test_tasks_are_counted_by_state(storage):
    tasks = [await submitted(storage) for _ in range(5)]
    for task in tasks[:2]:
        await storage.update_task(task["id"], "completed")
    counts = [await storage.count_tasks(state) for state in (None, "completed", "submitted", "failed")]
    assert counts == [5, 2, 3, 0]
    assert await storage.count_tasks(status="working") == 0


# ── Contexts ───────────────────────────────────────────────────────────────
async def test_a_context_knows_its_tasks(storage):
    first = await submitted(storage)
    second = await submitted(storage, context_id=first["context_id"])
    ids = [first["id"], second["id"]]
    assert await storage.load_context(first["context_id"]) == {"task_ids": ids}
    assert await storage.list_contexts() == [
        {"context_id": first["context_id"], "task_count": 2, "task_ids": ids}
    ]


@ours
async def test_what_is_put_into_a_context_comes_back(storage):
    context_id = uuid4()
    await storage.update_context(context_id, {"key": ["value", None]})
    assert await storage.load_context(context_id) == {"key": ["value", None]}
    await storage.update_context(context_id, {"other": 1})
    assert await storage.load_context(context_id) == {"other": 1}


async def test_messages_of_a_context_are_a_list_and_do_no_harm(storage):
    task = await submitted(storage)
    await storage.append_to_contexts(task["context_id"], [message()])
    await storage.append_to_contexts(uuid4(), [message()])
    assert (await storage.load_context(task["context_id"]))["task_ids"] == [task["id"]]
    await refused(TypeError, storage.append_to_contexts(uuid4(), "no"), "messages must be list, got str")


async def test_clearing_a_context_takes_all_of_it(storage):
    task, other = await submitted(storage), await submitted(storage)
    await storage.store_task_feedback(task["id"], {"rating": 5})
    await storage.clear_context(task["context_id"])
    assert await storage.load_task(task["id"]) is None
    assert await storage.load_context(task["context_id"]) is None
    assert await storage.get_task_feedback(task["id"]) is None
    assert [one["id"] for one in await storage.list_tasks()] == [other["id"]]
    assert len(await storage.list_contexts()) == 1
    assert await storage.count_tasks() == 1


async def test_clearing_what_is_not_there_is_a_value_error(storage):
    missing, task = uuid4(), await submitted(storage)
    await refused(ValueError, storage.clear_context(missing), f"Context {missing} not found")
    await storage.clear_context(task["context_id"])
    await refused(ValueError, storage.clear_context(task["context_id"]), "not found")


async def test_a_cleared_task_and_context_can_begin_anew(storage):
    task = await submitted(storage, caller="did:alice")
    await storage.clear_context(task["context_id"])
    again = await storage.submit_task(task["context_id"], message(task["id"], text="anew"), "did:bob")
    assert texts(again) == ["anew"]
    assert await storage.get_task_owner(task["id"]) == "did:bob"
    assert await storage.get_context_owner(task["context_id"]) == "did:bob"


async def test_clear_all_leaves_nothing(storage):
    task = await submitted(storage)
    await storage.store_task_feedback(task["id"], {"rating": 5})
    await storage.save_webhook_config(task["id"], {"id": uuid4(), "url": "https://example.com"})
    await storage.clear_all()
    assert await storage.list_tasks() == [] and await storage.list_contexts() == []
    assert await storage.count_tasks() == 0
    assert await storage.get_task_feedback(task["id"]) is None
    assert await storage.load_all_webhook_configs() == {}


@ours
async def test_closing_keeps_everything_and_may_be_repeated(storage):
    task = await submitted(storage)
    await storage.close()
    await storage.close()
    assert (await storage.load_task(task["id"]))["id"] == task["id"]


# ── Owners ─────────────────────────────────────────────────────────────────
async def test_task_and_context_belong_to_who_submitted_first(storage):
    task = await submitted(storage, caller="did:alice")
    assert await storage.get_task_owner(task["id"]) == "did:alice"
    assert await storage.get_context_owner(str(task["context_id"])) == "did:alice"
    nobodys = await submitted(storage)
    assert await storage.get_task_owner(nobodys["id"]) is None
    assert await storage.get_context_owner(nobodys["context_id"]) is None


async def test_anothers_context_takes_no_task(storage):
    task = await submitted(storage, caller="did:alice")
    for caller in ("did:bob", None):
        said = message(context_id=task["context_id"])
        await refused(OwnershipError, storage.submit_task(task["context_id"], said, caller_did=caller))
    nobodys = await submitted(storage)
    said = message(context_id=nobodys["context_id"])
    await refused(OwnershipError, storage.submit_task(nobodys["context_id"], said, caller_did="did:bob"))


@ours
async def test_anothers_task_takes_no_message_by_whatever_context(storage):
    """The hole of CONTRACTS.md 2.4."""
    task, own = await submitted(storage, caller="did:alice"), await submitted(storage, caller="did:bob")
    for context_id in (uuid4(), own["context_id"], task["context_id"]):
        said = message(task["id"], context_id)
        await refused(OwnershipError, storage.submit_task(context_id, said, caller_did="did:bob"))
    after = await storage.load_task(task["id"])
    assert len(after["history"]) == 1
    assert await storage.get_task_owner(task["id"]) == "did:alice"


async def test_lists_show_one_owners_or_all(storage):
    alices = await submitted(storage, caller="did:alice")
    await submitted(storage, caller="did:bob")
    await submitted(storage)
    assert [task["id"] for task in await storage.list_tasks(owner_did="did:alice")] == [alices["id"]]
    (context,) = await storage.list_contexts(owner_did="did:alice")
    assert context["context_id"] == alices["context_id"]
    there = alices["context_id"]
    assert len(await storage.list_tasks_by_context(there, owner_did="did:alice")) == 1
    assert await storage.list_tasks_by_context(there, owner_did="did:bob") == []
    assert len(await storage.list_tasks()) == len(await storage.list_contexts()) == 3
    assert await storage.list_tasks(owner_did="did:nobody") == []


# ── Feedback and push notifications ────────────────────────────────────────
async def test_feedback_comes_back_as_it_was_in_order(storage):
    task = await submitted(storage)
    given = [
        {
            "task_id": str(task["id"]),
            "feedback": "great\x00",
            "rating": 5,
            "metadata": {"a": 1},
            "timestamp": "x",
        },
        {"rating": 9},
        {"rating": None, "comment": "?", "odd": [1.5]},
        {"rating": 9},
    ]
    for one in given:
        await storage.store_task_feedback(str(task["id"]), one)
    assert await storage.get_task_feedback(task["id"]) == given
    call = storage.store_task_feedback(task["id"], "good")
    await refused(TypeError, call, "feedback_data must be dict, got str")


async def test_a_push_configuration_is_kept_replaced_and_deleted(storage):
    task = await submitted(storage)
    first = {"id": uuid4(), "url": "http://127.0.0.1:1/push?x=1", "token": "tok\x00"}
    second = {"id": uuid4(), "url": "https://example.com", "authentication": {"schemes": ["Bearer"]}}
    await storage.save_webhook_config(task["id"], first)
    assert await storage.load_webhook_config(str(task["id"])) == first
    await storage.save_webhook_config(task["id"], second)
    assert await storage.load_webhook_config(task["id"]) == second
    assert await storage.load_all_webhook_configs() == {task["id"]: second}
    assert isinstance((await storage.load_webhook_config(task["id"]))["id"], UUID)
    await storage.delete_webhook_config(task["id"])
    assert await storage.load_webhook_config(task["id"]) is None
    assert await storage.load_all_webhook_configs() == {}
    await storage.delete_webhook_config(task["id"])
    await storage.delete_webhook_config(uuid4())


async def test_a_push_configuration_may_come_before_its_task(storage):
    task_id, config = uuid4(), {"id": uuid4(), "url": "https://example.com/webhook"}
    await storage.save_webhook_config(task_id, config)
    assert await storage.load_webhook_config(task_id) == config
    assert await storage.load_all_webhook_configs() == {task_id: config}
    await storage.delete_webhook_config(task_id)
    assert await storage.load_webhook_config(task_id) is None


# ── Rooms ──────────────────────────────────────────────────────────────────
@ours
async def test_two_agents_see_nothing_of_each_other(storage):
    task = await submitted(storage, caller="did:alice", text="mine")
    other = RunfolioStorage(namespace="did:bindu:bob:other:1")
    assert await other.load_task(task["id"]) is None
    assert await other.list_tasks() == [] and await other.list_contexts() == []
    assert await other.get_task_owner(task["id"]) is None
    await refused(ValueError, other.clear_context(task["context_id"]))
    same = await other.submit_task(task["context_id"], message(task["id"], text="theirs"), "did:bob")
    await other.update_task(task["id"], "completed")
    assert texts(same) == ["theirs"]
    assert texts(await storage.load_task(task["id"])) == ["mine"]
    assert (await storage.load_task(task["id"]))["status"]["state"] == "submitted"
    await other.clear_all()
    assert len(await storage.list_tasks()) == 1


async def run(memory):
    outcomes = {}
    for name, check in list(globals().items()):
        if not name.startswith("test_") or (memory and hasattr(check, "ours")):
            continue
        storage = InMemoryStorage() if memory else RunfolioStorage(namespace=f"did:bindu:alice:{name}:1")
        try:
            await check(storage)
            outcomes[name] = "passed"
        except Exception:
            outcomes[name] = traceback.format_exc()
        finally:
            await storage.close()
    return outcomes


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run("memory" in sys.argv))))
