"""What PostgreSQL itself guards and records, also against raw SQL (DESIGN.md 3.6 and 3.10)."""

import pgtrigger

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
    return _changes(name, columns, run, f"correcting OR {final}")


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


def append_only() -> pgtrigger.Trigger:
    """Rows that are written once: history, changes, versions of feedback."""
    return pgtrigger.Trigger(
        name="append_only",
        operation=pgtrigger.Update | pgtrigger.Delete,
        when=pgtrigger.Before,
        func="""
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
        """,
    )


def count_runs() -> pgtrigger.Trigger:
    """Keeps the session's number of runs and last activity true, however a run comes to it or leaves."""
    return pgtrigger.Trigger(
        name="count_runs",
        operation=pgtrigger.Insert | pgtrigger.UpdateOf("session_id") | pgtrigger.Delete,
        when=pgtrigger.After,
        func="""
            IF TG_OP <> 'INSERT' AND OLD.session_id IS NOT NULL THEN
                UPDATE session SET run_count = run_count - 1 WHERE id = OLD.session_id;
            END IF;
            IF TG_OP <> 'DELETE' AND NEW.session_id IS NOT NULL THEN
                UPDATE session
                SET run_count = run_count + 1, last_activity_at = greatest(last_activity_at, NEW.created_at)
                WHERE id = NEW.session_id;
            END IF;
            RETURN NULL;
        """,
    )


def _changes(name: str, columns: list[str], run: str, condition: str) -> pgtrigger.Trigger:
    """Fires only where a column stands in the UPDATE: a heartbeat must not unpack a spec of 50 MB."""
    return pgtrigger.Trigger(
        name=name,
        operation=pgtrigger.UpdateOf(*columns),
        when=pgtrigger.After,
        declare=[
            ("reason", "text := coalesce(current_setting('runfolio.reason', true), '')"),
            ("correcting", "boolean := reason <> ''"),
            ("request", "text := coalesce(current_setting('runfolio.request_id', true), '')"),
            (
                "actor",
                "text := coalesce(nullif(current_setting('runfolio.actor', true), ''),"
                " 'database:' || session_user)",
            ),
        ],
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
            END IF;"""  # noqa: S608  names from the models, no input
