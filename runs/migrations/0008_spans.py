import django.db.models.deletion
import django.db.models.functions.datetime
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0007_files")]

    operations = [
        migrations.CreateModel(
            name="Trace",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("trace_id", models.CharField(max_length=32)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Nothing of an agent in it so far"),
                            ("open", "Its root may come"),
                            ("closed", "Closed"),
                        ],
                        max_length=10,
                    ),
                ),
                ("span_count", models.PositiveIntegerField(default=0)),
                ("rooted_at", models.DateTimeField(help_text="When its root came.", null=True)),
                (
                    "first_span_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("last_span_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="traces",
                        to="runs.owner",
                    ),
                ),
            ],
            options={"db_table": "trace"},
        ),
        migrations.CreateModel(
            name="SpanBatch",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "trace_id",
                        "number",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("is_protobuf", models.BooleanField()),
                ("document", models.BinaryField()),
                (
                    "trace",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="batches",
                        to="runs.trace",
                    ),
                ),
            ],
            options={"db_table": "span_batch"},
        ),
        migrations.AddIndex(
            model_name="trace",
            index=models.Index(
                condition=models.Q(("state", "closed"), _negated=True),
                fields=["state", "last_span_at"],
                name="trace_unfinished",
            ),
        ),
        migrations.AddConstraint(
            model_name="trace",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["waiting", "open", "closed"])), name="trace_state"
            ),
        ),
        # The block of models.search for so many runs that are made at once, and the time that they are made
        # at. As the trigger assign_block has it for one: no block begins between two of them.
        migrations.RunSQL(
            """
            CREATE FUNCTION block_for(its_owner bigint, number integer, OUT id bigint, OUT at timestamptz)
            LANGUAGE plpgsql AS $$
            DECLARE begins timestamptz;
            BEGIN
                at := statement_timestamp();
                -- Whoever opens a block in the past must be alone at making runs.
                PERFORM pg_advisory_xact_lock_shared(6450283, its_owner::integer);
                IF random() * 256 < number AND pg_try_advisory_xact_lock(7303278, its_owner::integer) THEN
                    INSERT INTO search_block (owner_id, from_at, opened_by)
                    SELECT its_owner, now() + interval '3 seconds', pg_current_xact_id()::text::bigint
                    WHERE EXISTS (SELECT FROM search_block WHERE owner_id = its_owner)
                    AND NOT EXISTS (
                        SELECT FROM search_block WHERE owner_id = its_owner AND from_at > now()
                    ) ON CONFLICT DO NOTHING;
                END IF;
                LOOP
                    SELECT search_block.id, from_at INTO id, begins FROM search_block
                    WHERE owner_id = its_owner AND from_at <= at + number * interval '1 microsecond'
                    -- One that we opened ourselves and that has its time already will be taken back.
                    AND (from_at <= now() OR opened_by IS DISTINCT FROM pg_current_xact_id()::text::bigint)
                    ORDER BY from_at DESC LIMIT 1;
                    EXIT WHEN id IS NOT NULL;
                    INSERT INTO search_block (owner_id, from_at)
                    VALUES (its_owner, '0001-01-01 00:00:00+00')
                    ON CONFLICT DO NOTHING;
                END LOOP;
                at := greatest(at, begins);
            END
            $$;
            """,
            "DROP FUNCTION block_for",
        ),
        # Writes the history of a trace's run anew after its first `keep` events, for the role that serves
        # too, which may delete no event. The run's id follows from the trace's, so that it can be no other
        # run. What others have written into it stays, behind the rest.
        migrations.RunSQL(
            """
            CREATE FUNCTION retell_run(target uuid, trace_said text, keep integer, events jsonb)
            RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
            DECLARE
                held run;
                digest bytea;
                others event[];
                their_docs search_doc[];
                told integer := keep + jsonb_array_length(events);
            BEGIN
                SELECT * INTO STRICT held FROM run WHERE id = target FOR UPDATE;
                digest := substr(sha256(convert_to(
                    format('runfolio trace %s %s', held.owner_id, trace_said), 'UTF8')), 1, 16);
                digest := set_byte(digest, 6, (get_byte(digest, 6) & 15) | 128);
                digest := set_byte(digest, 8, (get_byte(digest, 8) & 63) | 128);
                IF target <> encode(digest, 'hex')::uuid OR held.kind <> 'task' THEN
                    RAISE EXCEPTION 'run % is not told from trace %', target, trace_said
                        USING ERRCODE = 'insufficient_privilege';
                END IF;

                others := ARRAY(SELECT event FROM event WHERE run_id = target AND seq > keep
                    AND coalesce(event_id, '') NOT LIKE 'span:%' ORDER BY seq);
                their_docs := ARRAY(SELECT search_doc FROM search_doc
                    WHERE run_id = target AND seq IN (SELECT (unnest(others)).seq) ORDER BY seq);
                PERFORM set_config('runfolio.purging', 'on', true);
                DELETE FROM event WHERE run_id = target AND seq > keep;
                PERFORM set_config('runfolio.purging', '', true);
                DELETE FROM search_doc WHERE run_id = target AND seq > keep;

                INSERT INTO event (run_id, seq, event_id, kind, role, payload, payload_exact, size,
                    occurred_at, input_tokens, output_tokens, cost)
                SELECT target, keep + number, event_id, kind, role, payload, exact, size,
                    occurred_at, input_tokens, output_tokens, cost
                FROM ROWS FROM (jsonb_to_recordset(events) AS (
                    event_id text, kind text, role text, payload jsonb, exact text, size integer,
                    occurred_at timestamptz, input_tokens bigint, output_tokens bigint, cost numeric
                )) WITH ORDINALITY AS given (event_id, kind, role, payload, exact, size, occurred_at,
                    input_tokens, output_tokens, cost, number);
                INSERT INTO search_doc (run_id, seq, words, whole)
                SELECT target, keep + number,
                    replace(words, chr(2), held.search_block || ':')::tsvector, whole
                FROM ROWS FROM (jsonb_to_recordset(events) AS (words text, whole boolean))
                    WITH ORDINALITY AS given (words, whole, number);

                INSERT INTO event (id, run_id, seq, event_id, kind, role, payload, payload_exact, size,
                    occurred_at, created_at, input_tokens, output_tokens, cost)
                SELECT id, target, told + row_number() OVER (ORDER BY seq), event_id, kind, role, payload,
                    payload_exact, size, occurred_at, created_at, input_tokens, output_tokens, cost
                FROM unnest(others);
                INSERT INTO search_doc (run_id, seq, words, whole)
                SELECT target, told + place, words, whole FROM unnest(their_docs) AS doc
                JOIN (SELECT seq, row_number() OVER (ORDER BY seq) AS place FROM unnest(others)) AS theirs
                    USING (seq);

                UPDATE session SET last_activity_at = date_trunc('second', statement_timestamp())
                WHERE id = held.session_id
                AND last_activity_at < date_trunc('second', statement_timestamp());
            END
            $$;
            """,
            "DROP FUNCTION retell_run",
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='run',
            name='count_runs',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='run',
            name='note_choices',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='run',
            name='note_metadata_keys',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='run',
            name='roll_up_new',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='count_new_runs', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n                -- In one order, so that two who add to the same sessions do not wait in a circle.\n                PERFORM FROM session WHERE id IN (SELECT session_id FROM added WHERE deleted_at IS NULL)\n                ORDER BY id FOR NO KEY UPDATE;\n                UPDATE session\n                SET run_count = run_count + number, last_activity_at = greatest(last_activity_at, latest)\n                FROM (\n                    SELECT session_id, count(*) AS number, date_trunc('second', max(created_at)) AS latest\n                    FROM added WHERE deleted_at IS NULL GROUP BY session_id\n                ) AS more\n                WHERE id = session_id;\n                RETURN NULL;\n            ", hash='07b76656e32672acb344d018d51d3a375942e954', level='STATEMENT', operation='INSERT', pgid='pgtrigger_count_new_runs_49a09', referencing='REFERENCING NEW TABLE AS added ', table='run', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='count_runs', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n            IF OLD.session_id IS NOT NULL AND OLD.deleted_at IS NULL THEN\n                UPDATE session SET run_count = run_count - 1 WHERE id = OLD.session_id;\n            END IF;\n            IF TG_OP = 'UPDATE' AND NEW.session_id IS NOT NULL AND NEW.deleted_at IS NULL THEN\n                UPDATE session\n                SET run_count = run_count + 1,\n                    last_activity_at = greatest(last_activity_at, date_trunc('second', NEW.created_at))\n                WHERE id = NEW.session_id;\n            END IF;\n            RETURN NULL;\n        ", hash='026d26046ef1bb9e514d2f128f144e544ee1d1e0', operation='UPDATE OF "session_id", "deleted_at" OR DELETE', pgid='pgtrigger_count_runs_fb26f', table='run', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='note_new_runs', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n            INSERT INTO choice (owner_id, field, value)\n            SELECT DISTINCT added.owner_id, 'agent', left(added.agent, 300) FROM (SELECT * FROM added WHERE agent <> '') AS added\n            WHERE NOT EXISTS (\n                SELECT FROM choice AS known\n                WHERE (known.owner_id, known.field, known.value) = (added.owner_id, 'agent', left(added.agent, 300))\n            )\n            ON CONFLICT DO NOTHING; \n            INSERT INTO choice (owner_id, field, value)\n            SELECT DISTINCT added.owner_id, 'model', left(added.model, 300) FROM (SELECT * FROM added WHERE model <> '') AS added\n            WHERE NOT EXISTS (\n                SELECT FROM choice AS known\n                WHERE (known.owner_id, known.field, known.value) = (added.owner_id, 'model', left(added.model, 300))\n            )\n            ON CONFLICT DO NOTHING; \n            INSERT INTO choice (owner_id, field, value)\n            SELECT DISTINCT added.owner_id, 'metadata', left(key, 300) FROM added CROSS JOIN LATERAL (\n                SELECT key FROM jsonb_object_keys(\n                    CASE WHEN jsonb_typeof(metadata) = 'object' THEN metadata ELSE '{}' END\n                ) AS key LIMIT 100\n            ) AS keys\n            WHERE NOT EXISTS (\n                SELECT FROM choice AS known\n                WHERE (known.owner_id, known.field, known.value) = (added.owner_id, 'metadata', left(key, 300))\n            )\n            ON CONFLICT DO NOTHING;\nRETURN NULL;", hash='b030eead1ae444b54ce546bc98ede1ae5a51b1c9', level='STATEMENT', operation='INSERT', pgid='pgtrigger_note_new_runs_0b6bd', referencing='REFERENCING NEW TABLE AS added ', table='run', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='note_choices', sql=pgtrigger.compiler.UpsertTriggerSql(func="IF NEW.agent <> '' THEN \n            INSERT INTO choice (owner_id, field, value)\n            SELECT DISTINCT NEW.owner_id, 'agent', left(NEW.agent, 300) FROM (SELECT) AS one\n            WHERE NOT EXISTS (\n                SELECT FROM choice AS known\n                WHERE (known.owner_id, known.field, known.value) = (NEW.owner_id, 'agent', left(NEW.agent, 300))\n            )\n            ON CONFLICT DO NOTHING; END IF;\nIF NEW.model <> '' THEN \n            INSERT INTO choice (owner_id, field, value)\n            SELECT DISTINCT NEW.owner_id, 'model', left(NEW.model, 300) FROM (SELECT) AS one\n            WHERE NOT EXISTS (\n                SELECT FROM choice AS known\n                WHERE (known.owner_id, known.field, known.value) = (NEW.owner_id, 'model', left(NEW.model, 300))\n            )\n            ON CONFLICT DO NOTHING; END IF;\nRETURN NULL;", hash='115f94db09c89a689192f9c50e80512b9ea20fb8', operation='UPDATE OF "owner_id", "agent", "model"', pgid='pgtrigger_note_choices_eadd4', table='run', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='note_metadata_keys', sql=pgtrigger.compiler.UpsertTriggerSql(condition="WHEN (jsonb_typeof(NEW.metadata) = 'object' AND NEW.metadata <> '{}')", func="\n            INSERT INTO choice (owner_id, field, value)\n            SELECT DISTINCT NEW.owner_id, 'metadata', left(key, 300) FROM (SELECT key FROM jsonb_object_keys(NEW.metadata) AS key LIMIT 100) AS keys\n            WHERE NOT EXISTS (\n                SELECT FROM choice AS known\n                WHERE (known.owner_id, known.field, known.value) = (NEW.owner_id, 'metadata', left(key, 300))\n            )\n            ON CONFLICT DO NOTHING; RETURN NULL;", hash='398cae77a34eb67bb82cb97b8dbe019df5be4525', operation='UPDATE OF "owner_id", "metadata"', pgid='pgtrigger_note_metadata_keys_9353e', table='run', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='forget_traces', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n            DELETE FROM span_batch WHERE trace_id IN (SELECT id FROM gone);\n            DELETE FROM trace WHERE id IN (SELECT id FROM gone);\n            RETURN NULL;\n        ', hash='d22ea5b6725daf25929b2490fcc508b6bc69ea8f', level='STATEMENT', operation='DELETE', pgid='pgtrigger_forget_traces_49e1a', referencing='REFERENCING OLD TABLE AS gone ', table='run', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='roll_up_new', sql=pgtrigger.compiler.UpsertTriggerSql(func="INSERT INTO rollup_delta (owner_id, day, kind, agent, evaluator, succeeded_runs, failed_runs, cancelled_runs, duration, duration_count, input_tokens, output_tokens, cost, rating_sum, rating_count, passed, failed, errored, skipped, score_sum, score_count) SELECT owner_id, day, kind, agent, evaluator, sum(succeeded_runs), sum(failed_runs), sum(cancelled_runs), sum(duration), sum(duration_count), sum(input_tokens), sum(output_tokens), sum(cost), sum(rating_sum), sum(rating_count), sum(passed), sum(failed), sum(errored), sum(skipped), sum(score_sum), sum(score_count) FROM (SELECT added.owner_id, (added.created_at AT TIME ZONE 'UTC')::date, added.kind, added.agent, '', +((added.status = 'succeeded')::int), +((added.status = 'failed')::int), +((added.status = 'cancelled')::int), +(coalesce((extract(epoch FROM added.finished_at - added.started_at) * 1000)::bigint, 0)), +((added.started_at IS NOT NULL)::int), +(coalesce(added.input_tokens, 0)), +(coalesce(added.output_tokens, 0)), +(coalesce(added.cost, 0)), +(coalesce(round(added.rating_average * added.rating_count)::bigint, 0)), +(added.rating_count), 0, 0, 0, 0, 0, 0 FROM added WHERE added.status IN ('succeeded', 'failed', 'cancelled') AND added.deleted_at IS NULL) AS shares (owner_id, day, kind, agent, evaluator, succeeded_runs, failed_runs, cancelled_runs, duration, duration_count, input_tokens, output_tokens, cost, rating_sum, rating_count, passed, failed, errored, skipped, score_sum, score_count) GROUP BY owner_id, day, kind, agent, evaluator HAVING sum(succeeded_runs) <> 0 OR sum(failed_runs) <> 0 OR sum(cancelled_runs) <> 0 OR sum(duration) <> 0 OR sum(duration_count) <> 0 OR sum(input_tokens) <> 0 OR sum(output_tokens) <> 0 OR sum(cost) <> 0 OR sum(rating_sum) <> 0 OR sum(rating_count) <> 0 OR sum(passed) <> 0 OR sum(failed) <> 0 OR sum(errored) <> 0 OR sum(skipped) <> 0 OR sum(score_sum) <> 0 OR sum(score_count) <> 0; RETURN NULL;", hash='58e17c8a7372f99ef8a0aeee31dcfb69f46a7a08', level='STATEMENT', operation='INSERT', pgid='pgtrigger_roll_up_new_5d552', referencing='REFERENCING NEW TABLE AS added ', table='run', when='AFTER')),
        ),
    ]
