"""What PostgreSQL itself guards and records, also against raw SQL (DESIGN.md 3.6 and 3.10)."""

import pgtrigger

RUNS_PER_BLOCK = 256  # of models.search, on average
_FINAL = "('succeeded', 'failed', 'cancelled')"
RUN_IS_FINAL = f"OLD.status IN {_FINAL}"
RUN_OF_ROW_IS_FINAL = f"EXISTS (SELECT FROM run WHERE id = OLD.run_id AND status IN {_FINAL})"


def alterations(name: str, columns: list[str], run: str = "NULL::uuid") -> pgtrigger.Trigger:
    """Records a `change` when a column that nothing but a correction alters is altered.

    Filling an empty one is no correction. `run` is SQL for the id of the run on whose page it shows.
    """
    return _changes(name, columns, run, "OLD.{0} IS NOT NULL AND OLD.{0}::text <> ''")


def corrections(
    name: str, columns: list[str], run: str = "NULL::uuid", final: str = "false"
) -> pgtrigger.Trigger:
    """Records a `change` when a column that the store's verbs alter as well is corrected.

    What tells a correction from a verb is its reason, or `final`: SQL for whether the run is final, so
    that no verb alters it any more.
    """
    # Said once more where PostgreSQL can look at it without calling the function.
    simple = "SELECT" not in final
    only_if = f"coalesce(current_setting('runfolio.reason', true), '') <> '' OR {final}" if simple else ""
    return _changes(name, columns, run, f"correcting OR {final}", only_if)


def final_needs_reason() -> pgtrigger.Trigger:
    """A final status changes only by a correction with a reason, never by a late write."""
    return pgtrigger.Trigger(
        name="final_needs_reason",
        operation=pgtrigger.UpdateOf("status"),
        when=pgtrigger.Before,
        condition=pgtrigger.Condition(f"{RUN_IS_FINAL} AND NEW.status IS DISTINCT FROM OLD.status"),
        func="""
            IF coalesce(current_setting('runfolio.reason', true), '') = '' THEN
                RAISE EXCEPTION 'run % is %: a final status changes only by a correction with a reason',
                    OLD.id, OLD.status USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        """,
    )


def note_membership() -> pgtrigger.Trigger:
    """Records a `change` when a person's role is altered or taken, and when somebody gives one for a reason.

    The id says whose role for whom: `user:7 owner:3`.
    """
    return pgtrigger.Trigger(
        name="note_membership",
        operation=pgtrigger.Insert | pgtrigger.UpdateOf("role") | pgtrigger.Delete,
        when=pgtrigger.After,
        declare=_SAID_BY,
        func="""
            IF (TG_OP = 'INSERT' AND NOT correcting)
            OR (TG_OP = 'UPDATE' AND OLD.role IS NOT DISTINCT FROM NEW.role) THEN
                RETURN NULL;
            END IF;
            INSERT INTO change (actor, reason, request_id, object_type, object_id, run_id, field, old, new)
            VALUES (
                actor, reason, request, TG_TABLE_NAME,
                'user:' || coalesce(NEW.user_id, OLD.user_id)
                    || ' owner:' || coalesce(NEW.owner_id, OLD.owner_id),
                NULL, 'role', to_jsonb(OLD.role), to_jsonb(NEW.role)
            );
            RETURN NULL;
        """,
    )


def append_only() -> pgtrigger.Trigger:
    """Rows that are written once: history, changes, versions of feedback. Only purging takes them away."""
    return pgtrigger.Trigger(
        name="append_only",
        operation=pgtrigger.Update | pgtrigger.Delete,
        when=pgtrigger.Before,
        func="""
            IF TG_OP = 'DELETE' AND current_setting('runfolio.purging', true) = 'on' THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
        """,
    )


def count_runs() -> list[pgtrigger.Trigger]:
    """Keeps the session's number of runs and last activity true, however a run comes to it or leaves.

    A deleted run does not count. Activity is kept to the second: writers of one session would queue for
    its row otherwise. New runs are counted once for each statement: traces come in by the hundred.
    """
    return [
        pgtrigger.Trigger(
            name="count_new_runs",
            level=pgtrigger.Statement,
            operation=pgtrigger.Insert,
            when=pgtrigger.After,
            referencing=pgtrigger.Referencing(new="added"),
            func="""
                -- In one order, so that two who add to the same sessions do not wait in a circle.
                PERFORM FROM session WHERE id IN (SELECT session_id FROM added WHERE deleted_at IS NULL)
                ORDER BY id FOR NO KEY UPDATE;
                UPDATE session
                SET run_count = run_count + number, last_activity_at = greatest(last_activity_at, latest)
                FROM (
                    SELECT session_id, count(*) AS number, date_trunc('second', max(created_at)) AS latest
                    FROM added WHERE deleted_at IS NULL GROUP BY session_id
                ) AS more
                WHERE id = session_id;
                RETURN NULL;
            """,
        ),
        pgtrigger.Trigger(
            name="count_runs",
            operation=pgtrigger.UpdateOf("session_id", "deleted_at") | pgtrigger.Delete,
            when=pgtrigger.After,
            func="""
            IF OLD.session_id IS NOT NULL AND OLD.deleted_at IS NULL THEN
                UPDATE session SET run_count = run_count - 1 WHERE id = OLD.session_id;
            END IF;
            IF TG_OP = 'UPDATE' AND NEW.session_id IS NOT NULL AND NEW.deleted_at IS NULL THEN
                UPDATE session
                SET run_count = run_count + 1,
                    last_activity_at = greatest(last_activity_at, date_trunc('second', NEW.created_at))
                WHERE id = NEW.session_id;
            END IF;
            RETURN NULL;
        """,
        ),
    ]


def forget_traces() -> pgtrigger.Trigger:
    """A run that goes for good takes the spans along that it was told from (models.span)."""
    return pgtrigger.Trigger(
        name="forget_traces",
        level=pgtrigger.Statement,
        operation=pgtrigger.Delete,
        when=pgtrigger.After,
        referencing=pgtrigger.Referencing(old="gone"),
        func="""
            DELETE FROM span_batch WHERE trace_id IN (SELECT id FROM gone);
            DELETE FROM trace WHERE id IN (SELECT id FROM gone);
            RETURN NULL;
        """,
    )


def tell_task() -> pgtrigger.Trigger:
    """Keeps what a task's row says of its run true, whoever moves, deletes or restores it (models.task).

    A status that came without a word of its own has A2A's. A task that is restored stays cleared where its
    agent has begun another one of its id since.
    """
    words = " ".join(f"WHEN '{status}' THEN '{word}'" for status, word in _A2A_WORDS.items())
    return pgtrigger.Trigger(
        name="tell_task",
        operation=pgtrigger.UpdateOf("status", "raw_status", "deleted_at"),
        when=pgtrigger.After,
        condition=pgtrigger.Condition(
            "NEW.kind = 'task' AND (OLD.status, OLD.raw_status, OLD.deleted_at)"
            " IS DISTINCT FROM (NEW.status, NEW.raw_status, NEW.deleted_at)"
        ),
        func=f"""
            IF (OLD.status, OLD.raw_status) IS DISTINCT FROM (NEW.status, NEW.raw_status) THEN
                UPDATE task SET state_at = statement_timestamp(), state = CASE
                    WHEN OLD.raw_status <> NEW.raw_status AND NEW.raw_status <> '' THEN NEW.raw_status
                    ELSE CASE NEW.status {words} END END
                WHERE run_id = NEW.id;
            END IF;
            IF NEW.deleted_at IS NOT NULL THEN
                UPDATE task SET cleared_at = NEW.deleted_at WHERE run_id = NEW.id AND cleared_at IS NULL;
            ELSIF OLD.deleted_at IS NOT NULL THEN
                UPDATE task SET cleared_at = NULL WHERE run_id = NEW.id AND NOT EXISTS (
                    SELECT FROM task AS other WHERE other.owner_id = task.owner_id
                    AND other.namespace = task.namespace AND other.task_id = task.task_id
                    AND other.cleared_at IS NULL
                );
            END IF;
            RETURN NULL;
        """,
    )


# As models.task has them.
_A2A_WORDS = {
    "queued": "submitted",
    "running": "working",
    "input_required": "input-required",
    "paused": "suspended",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "canceled",
}


def tell_context() -> pgtrigger.Trigger:
    """Keeps true whether a context is cleared, whoever deletes or restores its session (models.task)."""
    return pgtrigger.Trigger(
        name="tell_context",
        operation=pgtrigger.UpdateOf("deleted_at"),
        when=pgtrigger.After,
        condition=pgtrigger.Condition("OLD.deleted_at IS DISTINCT FROM NEW.deleted_at"),
        func="UPDATE context SET cleared_at = NEW.deleted_at WHERE session_id = NEW.id; RETURN NULL;",
    )


def assign_block() -> list[pgtrigger.Trigger]:
    """Puts a run into its owner's block of its time (models.search), whoever writes it.

    Which block that is follows from the run's time alone, as long as everybody sees the blocks. So a block is
    opened a little ahead of its time, by a run that chance chooses, since all would wait for a counter, and
    `opened_in_time` takes it back if it is not there for all when its time comes. One in the past, for
    history that is imported, is opened by whoever is alone at making runs.
    """
    moved = "OLD.owner_id <> NEW.owner_id OR OLD.created_at <> NEW.created_at"
    return [
        pgtrigger.Trigger(
            name="assign_block",
            operation=pgtrigger.Insert,
            when=pgtrigger.Before,
            condition=pgtrigger.Condition("NEW.search_block IS NULL"),
            func=f"{_OPEN_BLOCK} {_FIND_BLOCK}",
        ),
        pgtrigger.Trigger(
            name="reassign_block",
            operation=pgtrigger.UpdateOf("owner_id", "created_at"),
            when=pgtrigger.Before,
            condition=pgtrigger.Condition(moved),
            func=_FIND_BLOCK,
        ),
    ]


def opened_in_time() -> pgtrigger.Trigger:
    """Takes a block back that was opened ahead of its time by a transaction that ends only now."""
    return pgtrigger.Trigger(
        name="opened_in_time",
        operation=pgtrigger.Insert,
        when=pgtrigger.After,
        timing=pgtrigger.Deferred,
        func="""
            IF NEW.from_at > now() AND clock_timestamp() > NEW.from_at - interval '2 seconds' THEN
                DELETE FROM search_block WHERE id = NEW.id;
            END IF;
            RETURN NULL;
        """,
    )


MAKING_RUNS = 0x626C6B  # "blk": shared by those who make runs of an owner
_OPENING = 0x6F706E  # "opn": one at a time, so that later blocks have higher numbers
_OPEN_BLOCK = f"""
            PERFORM pg_advisory_xact_lock_shared({MAKING_RUNS}, NEW.owner_id::integer);
            IF random() * {RUNS_PER_BLOCK} < 1
            AND pg_try_advisory_xact_lock({_OPENING}, NEW.owner_id::integer)
            AND EXISTS (SELECT FROM search_block WHERE owner_id = NEW.owner_id) THEN
                IF NEW.created_at > now() - interval '1 hour' THEN
                    INSERT INTO search_block (owner_id, from_at, opened_by)
                    SELECT NEW.owner_id, now() + interval '3 seconds', pg_current_xact_id()::text::bigint
                    WHERE NOT EXISTS (
                        SELECT FROM search_block WHERE owner_id = NEW.owner_id AND from_at > now()
                    ) ON CONFLICT DO NOTHING;
                ELSIF pg_try_advisory_xact_lock({MAKING_RUNS}, NEW.owner_id::integer) THEN
                    INSERT INTO search_block (owner_id, from_at)
                    SELECT NEW.owner_id, NEW.created_at
                    WHERE NOT EXISTS (
                        SELECT FROM run WHERE owner_id = NEW.owner_id AND created_at >= NEW.created_at
                    ) AND NOT EXISTS (
                        SELECT FROM search_block WHERE owner_id = NEW.owner_id AND from_at >= NEW.created_at
                    );
                END IF;
            END IF;
"""
_FIND_BLOCK = """
            LOOP
                SELECT id INTO NEW.search_block FROM search_block
                WHERE owner_id = NEW.owner_id AND from_at <= NEW.created_at
                -- One that we opened ourselves and that has its time already will be taken back.
                AND (from_at <= now() OR opened_by IS DISTINCT FROM pg_current_xact_id()::text::bigint)
                ORDER BY from_at DESC LIMIT 1;
                EXIT WHEN NEW.search_block IS NOT NULL;
                INSERT INTO search_block (owner_id, from_at)
                VALUES (NEW.owner_id, '0001-01-01 00:00:00+00')
                ON CONFLICT DO NOTHING;
            END LOOP;
            RETURN NEW;
"""


# Who says so, why, and in which request (models.change.correction).
_SAID_BY = [
    ("reason", "text := coalesce(current_setting('runfolio.reason', true), '')"),
    ("correcting", "boolean := reason <> ''"),
    ("request", "text := coalesce(current_setting('runfolio.request_id', true), '')"),
    (
        "actor",
        "text := coalesce(nullif(current_setting('runfolio.actor', true), ''), 'database:' || session_user)",
    ),
]


def _changes(name: str, columns: list[str], run: str, condition: str, only_if: str = "") -> pgtrigger.Trigger:
    """Fires only where a column stands in the UPDATE: a heartbeat must not unpack a spec of 50 MB."""
    return pgtrigger.Trigger(
        name=name,
        operation=pgtrigger.UpdateOf(*columns),
        when=pgtrigger.After,
        condition=pgtrigger.Condition(only_if) if only_if else None,
        declare=_SAID_BY,
        func="\n".join(_compare(column, run, condition.format(column)) for column in columns)
        + "\nRETURN NULL;",
    )


def _compare(column: str, run: str, condition: str) -> str:
    return f"""
            IF OLD.{column} IS DISTINCT FROM NEW.{column} AND ({condition}) THEN
                INSERT INTO change
                    (actor, reason, request_id, object_type, object_id, run_id, field, old, new)
                VALUES
                    (actor, reason, request, TG_TABLE_NAME, OLD.id::text, {run}, '{column}',
                     to_jsonb(OLD.{column}), to_jsonb(NEW.{column}));
            END IF;"""


# ── The queue (issue 4) ────────────────────────────────────────────────────
QUEUE_CHANNEL, CANCEL_CHANNEL = "runfolio_queue", "runfolio_cancel"


def queue_triggers() -> list[pgtrigger.Trigger]:
    """What goes along with an evaluation's way through the queue, whoever moves it and however."""
    evaluation = "NEW.kind = 'evaluation'"
    waits = f"{evaluation} AND NEW.status = 'queued' AND NEW.run_after IS NULL"
    return [
        pgtrigger.Trigger(
            name="wake_workers",
            operation=pgtrigger.Insert | pgtrigger.UpdateOf("status", "run_after"),
            when=pgtrigger.After,
            condition=pgtrigger.Condition(waits),
            func=f"PERFORM pg_notify('{QUEUE_CHANNEL}', ''); RETURN NULL;",
        ),
        pgtrigger.Trigger(
            name="tell_cancel",
            operation=pgtrigger.UpdateOf("cancel_requested_at"),
            when=pgtrigger.After,
            condition=pgtrigger.Condition(
                f"{evaluation} AND NEW.status = 'running' AND NEW.cancel_requested_at IS NOT NULL"
            ),
            func=f"PERFORM pg_notify('{CANCEL_CHANNEL}', NEW.id::text); RETURN NULL;",
        ),
        pgtrigger.Trigger(
            name="note_attempt",
            operation=pgtrigger.UpdateOf("status", "worker_id"),
            when=pgtrigger.After,
            condition=pgtrigger.Condition(
                f"{evaluation} AND (OLD.status, OLD.worker_id) IS DISTINCT FROM (NEW.status, NEW.worker_id)"
            ),
            func="""
                IF OLD.status = 'running' THEN
                    UPDATE attempt SET ended_at = statement_timestamp(), doing = '',
                        outcome = CASE NEW.status
                            WHEN 'running' THEN 'lost' WHEN 'queued' THEN 'released' ELSE NEW.status END,
                        reason = coalesce(CASE WHEN NEW.status NOT IN ('queued', 'running')
                            THEN NEW.error END, '')
                    WHERE run_id = NEW.id AND ended_at IS NULL;
                END IF;
                IF NEW.status = 'running' THEN
                    INSERT INTO attempt (run_id, owner_id, number, worker_id, started_at,
                        outcome, reason, doing)
                    SELECT NEW.id, NEW.owner_id, coalesce(max(number), 0) + 1, NEW.worker_id,
                        coalesce(NEW.claimed_at, statement_timestamp()), '', '', ''
                    FROM attempt WHERE run_id = NEW.id;
                END IF;
                RETURN NULL;
            """,
        ),
        pgtrigger.Trigger(
            name="tell_end",
            operation=pgtrigger.UpdateOf("status"),
            when=pgtrigger.After,
            condition=pgtrigger.Condition(f"NEW.status IN {_FINAL} AND OLD.status NOT IN {_FINAL}"),
            func="""
                IF NOT EXISTS (SELECT FROM webhook WHERE run_id = NEW.id) THEN
                    RETURN NULL;
                END IF;
                INSERT INTO delivery (run_id, webhook_id, phase, body, state, tries, error)
                SELECT NEW.id, webhook.id,
                    CASE NEW.status WHEN 'succeeded' THEN 'final' ELSE 'error' END,
                    CASE NEW.status WHEN 'succeeded' THEN
                        json_build_object('phase', 'final', 'run_id', NEW.id, 'attempt', NEW.attempt,
                            'summary', NEW.summary)
                    ELSE
                        json_build_object('phase', 'error', 'run_id', NEW.id, 'attempt', NEW.attempt,
                            'error', coalesce(NEW.error, CASE NEW.status
                                WHEN 'cancelled' THEN 'cancelled by request' ELSE 'failed' END))
                    END::text, 'waiting', 0, ''
                FROM webhook WHERE webhook.run_id = NEW.id AND webhook.kind <> 'a2a_push'
                ORDER BY webhook.position, webhook.id;
                RETURN NULL;
            """,
        ),
    ]


# ── Push notifications (issue 6, point 2) ──────────────────────────────────
# The function `tell_push` is in migration 0006. Where nobody asked to be told it costs one look-up.
def push_state() -> pgtrigger.Trigger:
    """Tells A2A clients of a task's new state, whoever moved it and however; of a queued one nothing is told
    (CONTRACTS.md 2.6). At the end of the transaction, so that the question that an agent asks with it is
    there to go along."""
    return pgtrigger.Trigger(
        name="push_state",
        operation=pgtrigger.UpdateOf("status", "raw_status"),
        when=pgtrigger.After,
        timing=pgtrigger.Deferred,
        condition=pgtrigger.Condition(
            "NEW.kind = 'task' AND NEW.status <> 'queued'"
            " AND (NEW.status, NEW.raw_status) IS DISTINCT FROM (OLD.status, OLD.raw_status)"
        ),
        func="""
            PERFORM tell_push(NEW, nullif(NEW.raw_status, OLD.raw_status), NULL);
            RETURN NULL;
        """,
    )


def push_artifact() -> pgtrigger.Trigger:
    """Tells them of an artifact that is new or has changed."""
    return pgtrigger.Trigger(
        name="push_artifact",
        operation=pgtrigger.Insert | pgtrigger.UpdateOf("name", "parts", "parts_exact", "told", "told_exact"),
        when=pgtrigger.After,
        func="""
            IF EXISTS (SELECT FROM webhook WHERE run_id = NEW.run_id AND kind = 'a2a_push') THEN
                PERFORM tell_push(run, NULL, NEW) FROM run WHERE id = NEW.run_id AND kind = 'task';
            END IF;
            RETURN NULL;
        """,
    )


# ── Choices ────────────────────────────────────────────────────────────────
def note_choices(*columns: str, new: bool = True) -> pgtrigger.Trigger:
    """Keeps the values of these columns as choices of a filter (models.choice), with `new` those of new rows
    as well."""
    altered = pgtrigger.UpdateOf("owner_id", *columns)
    return pgtrigger.Trigger(
        name="note_choices",
        operation=pgtrigger.Insert | altered if new else altered,
        when=pgtrigger.After,
        func="\n".join(
            f"IF NEW.{column} <> '' THEN {_choice('NEW.owner_id', column, f'NEW.{column}')}; END IF;"
            for column in columns
        )
        + "\nRETURN NULL;",
    )


def note_metadata_keys() -> pgtrigger.Trigger:
    """Keeps the keys of a run's metadata as choices; more than a hundred are no labels."""
    keys = "(SELECT key FROM jsonb_object_keys(NEW.metadata) AS key LIMIT 100) AS keys"
    return pgtrigger.Trigger(
        name="note_metadata_keys",
        operation=pgtrigger.UpdateOf("owner_id", "metadata"),
        when=pgtrigger.After,
        condition=pgtrigger.Condition("jsonb_typeof(NEW.metadata) = 'object' AND NEW.metadata <> '{}'"),
        func=f"{_choice('NEW.owner_id', 'metadata', 'key', keys)}; RETURN NULL;",
    )


def note_new_runs(*columns: str) -> pgtrigger.Trigger:
    """Both for new runs, once for each statement."""
    keys = """added CROSS JOIN LATERAL (
                SELECT key FROM jsonb_object_keys(
                    CASE WHEN jsonb_typeof(metadata) = 'object' THEN metadata ELSE '{}' END
                ) AS key LIMIT 100
            ) AS keys"""
    noted = [
        *(
            _choice(
                "added.owner_id",
                column,
                f"added.{column}",
                f"(SELECT * FROM added WHERE {column} <> '') AS added",
            )
            for column in columns
        ),
        _choice("added.owner_id", "metadata", "key", keys),
    ]
    return pgtrigger.Trigger(
        name="note_new_runs",
        level=pgtrigger.Statement,
        operation=pgtrigger.Insert,
        when=pgtrigger.After,
        referencing=pgtrigger.Referencing(new="added"),
        func="; ".join(noted) + ";\nRETURN NULL;",
    )


def _choice(owner: str, field: str, value: str, source: str = "(SELECT) AS one") -> str:
    """Looks before it writes: nearly every value is there already."""
    return f"""
            INSERT INTO choice (owner_id, field, value)
            SELECT DISTINCT {owner}, '{field}', left({value}, 300) FROM {source}
            WHERE NOT EXISTS (
                SELECT FROM choice AS known
                WHERE (known.owner_id, known.field, known.value) = ({owner}, '{field}', left({value}, 300))
            )
            ON CONFLICT DO NOTHING"""


# ── Rollups ────────────────────────────────────────────────────────────────
ROLLUP_KEY = ("owner_id", "day", "kind", "agent", "evaluator")
_OF_A_RUN = {
    "succeeded_runs": "({0}.status = 'succeeded')::int",
    "failed_runs": "({0}.status = 'failed')::int",
    "cancelled_runs": "({0}.status = 'cancelled')::int",
    "duration": "coalesce((extract(epoch FROM {0}.finished_at - {0}.started_at) * 1000)::bigint, 0)",
    "duration_count": "({0}.started_at IS NOT NULL)::int",
    "input_tokens": "coalesce({0}.input_tokens, 0)",
    "output_tokens": "coalesce({0}.output_tokens, 0)",
    "cost": "coalesce({0}.cost, 0)",
    "rating_sum": "coalesce(round({0}.rating_average * {0}.rating_count)::bigint, 0)",
    "rating_count": "{0}.rating_count",
}
_OF_A_RESULT = {
    "passed": "({0}.status = 'passed')::int",
    "failed": "({0}.status = 'failed')::int",
    "errored": "({0}.status = 'errored')::int",
    "skipped": "({0}.status = 'skipped')::int",
    # As decimals, whose sum does not depend on their order; what is no number of use is no score.
    "score_sum": "CASE WHEN abs({0}.score) < 1e15 THEN {0}.score::numeric(40, 12) ELSE 0 END",
    "score_count": "(abs({0}.score) < 1e15 IS TRUE)::int",
    "duration": "coalesce({0}.latency_ms, 0)",
    "duration_count": "({0}.latency_ms IS NOT NULL)::int",
}
ROLLED_UP = tuple(dict.fromkeys([*_OF_A_RUN, *_OF_A_RESULT]))
_KEYS, _SUMS = ", ".join(ROLLUP_KEY), ", ".join(ROLLED_UP)
_INTO = f"INSERT INTO rollup_delta ({_KEYS}, {_SUMS})"
# A run whose results move along with it, or that begins or ceases to count.
_MOVED = """(OLD.owner_id, OLD.kind, OLD.agent, OLD.created_at, OLD.deleted_at)
            IS DISTINCT FROM (NEW.owner_id, NEW.kind, NEW.agent, NEW.created_at, NEW.deleted_at)"""


def share_of_run(row: str, source: str = "", sign: str = "+") -> str:
    """SQL for what the run `row` adds to its rollup: a row, or none while it does not count."""
    where = f"{row}.status IN {_FINAL} AND {row}.deleted_at IS NULL"
    return f"SELECT {_key(row, evaluator="''")}, {_values(_OF_A_RUN, row, sign)} {source} WHERE {where}"


def share_of_results(run: str, result: str, source: str, sign: str = "+") -> str:
    """SQL for what the rows `result` of the run `run` add to the rollups of their evaluators."""
    key = _key(run, evaluator=f"{result}.evaluator_name")
    return f"SELECT {key}, {_values(_OF_A_RESULT, result, sign)} {source} AND {run}.deleted_at IS NULL"


def added_up(*shares: str) -> str:
    """SQL for the sums of these shares that are not all nothing."""
    sums = ", ".join(f"sum({name})" for name in ROLLED_UP)
    some = " OR ".join(f"sum({name}) <> 0" for name in ROLLED_UP)
    rows = "\nUNION ALL ".join(shares)
    shares_of_all = f"({rows}) AS shares ({_KEYS}, {_SUMS})"
    return f"SELECT {_KEYS}, {sums} FROM {shares_of_all} GROUP BY {_KEYS} HAVING {some}"


def roll_up_runs() -> list[pgtrigger.Trigger]:
    """Appends what a run adds to the rollups, or takes away, however it changes."""
    results = [
        share_of_results(row, "result", f"FROM result WHERE result.run_id = {row}.id", sign)
        for row, sign in (("OLD", "-"), ("NEW", "+"))
    ]
    return [
        pgtrigger.Trigger(
            name="roll_up_new",
            level=pgtrigger.Statement,
            operation=pgtrigger.Insert,
            when=pgtrigger.After,
            referencing=pgtrigger.Referencing(new="added"),
            func=f"{_INTO} {added_up(share_of_run('added', 'FROM added'))}; RETURN NULL;",
        ),
        pgtrigger.Trigger(
            name="roll_up_change",
            operation=pgtrigger.UpdateOf(
                *("status", "deleted_at", "owner_id", "kind", "agent", "created_at", "started_at"),
                *("finished_at", "input_tokens", "output_tokens", "cost", "rating_average", "rating_count"),
            ),
            when=pgtrigger.After,
            condition=pgtrigger.Condition(f"OLD.status IN {_FINAL} OR NEW.status IN {_FINAL} OR {_MOVED}"),
            func=f"""
                IF OLD.status NOT IN {_FINAL} AND NOT ({_MOVED}) THEN  -- it has ended, as nearly always
                    {_INTO} {share_of_run("NEW")};
                    RETURN NULL;
                END IF;
                {_INTO} {added_up(share_of_run("OLD", sign="-"), share_of_run("NEW"))};
                IF {_MOVED} THEN
                    {_INTO} {added_up(*results)};
                END IF;
                RETURN NULL;
            """,
        ),
        pgtrigger.Trigger(
            name="roll_up_gone",
            level=pgtrigger.Statement,
            operation=pgtrigger.Delete,
            when=pgtrigger.After,
            referencing=pgtrigger.Referencing(old="gone"),
            func=f"{_INTO} {added_up(share_of_run('gone', 'FROM gone', '-'))}; RETURN NULL;",
        ),
    ]


def roll_up_results() -> list[pgtrigger.Trigger]:
    """Appends what results add to the rollups, or take away, once for each statement."""

    def trigger(
        name: str, operation: pgtrigger.Operation, tables: dict[str, str], more: str = ""
    ) -> pgtrigger.Trigger:
        signs = {"gone": "-", "added": "+"}
        shares = [
            share_of_results("run", table, _WITH_RUN.format(table), signs[table]) for table in tables.values()
        ]
        return pgtrigger.Trigger(
            name=name,
            level=pgtrigger.Statement,
            operation=operation,
            when=pgtrigger.After,
            referencing=pgtrigger.Referencing(**tables),
            func=f"{_INTO} {added_up(*shares)}; {more} RETURN NULL;",
        )

    evaluators = _choice(
        "run.owner_id", "evaluator", "evaluator_name", "added JOIN run ON run.id = added.run_id"
    )
    return [
        trigger("roll_up_new", pgtrigger.Insert, {"new": "added"}, f"{evaluators};"),
        trigger("roll_up_change", pgtrigger.Update, {"old": "gone", "new": "added"}),
        trigger("roll_up_gone", pgtrigger.Delete, {"old": "gone"}),
    ]


_WITH_RUN = "FROM {0} JOIN run ON run.id = {0}.run_id WHERE true"


def _key(row: str, evaluator: str) -> str:
    day = f"({row}.created_at AT TIME ZONE 'UTC')::date"
    return f"{row}.owner_id, {day}, {row}.kind, {row}.agent, {evaluator}"


def _values(values: dict[str, str], row: str, sign: str) -> str:
    return ", ".join(f"{sign}({values[name].format(row)})" if name in values else "0" for name in ROLLED_UP)
