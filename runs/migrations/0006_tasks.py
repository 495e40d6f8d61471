import django.db.models.functions.datetime
import django.db.models.deletion
import pgtrigger.migrations
import pgtrigger.compiler
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0005_pages")]

    operations = [
        migrations.CreateModel(
            name='Context',
            fields=[
                ('session', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='context', serialize=False, to='runs.session')),
                ('namespace', models.CharField(blank=True, default='', max_length=255)),
                ('context_id', models.UUIDField()),
                ('caller', models.CharField(blank=True, help_text='Who began it, as the agent knows them.', max_length=255, null=True)),
                ('data', models.JSONField(blank=True, default=dict)),
                ('data_exact', models.TextField(editable=False, null=True)),
                ('opened_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False, help_text='Since when it is there; a cleared one may come again.')),
                ('cleared_at', models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                'db_table': 'context',
            },
        ),
        migrations.CreateModel(
            name='ContextMessage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('payload', models.JSONField()),
                ('payload_exact', models.TextField(editable=False, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'db_table': 'context_message',
                'ordering': ['context', 'id'],
            },
        ),
        migrations.CreateModel(
            name='KeptAnswer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=255)),
                ('request', models.CharField(help_text='SHA-256 of what was asked.', max_length=64)),
                ('status', models.PositiveSmallIntegerField(help_text='None while it is being done.', null=True)),
                ('body', models.TextField(blank=True, default='')),
                ('event_count', models.PositiveIntegerField(default=0)),
                ('artifact_count', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'db_table': 'kept_answer',
            },
        ),
        migrations.CreateModel(
            name='Task',
            fields=[
                ('run', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='task', serialize=False, to='runs.run')),
                ('namespace', models.CharField(blank=True, default='', help_text="An agent's own room.", max_length=255)),
                ('task_id', models.UUIDField()),
                ('caller', models.CharField(blank=True, help_text='Who asked, as the agent knows them.', max_length=255, null=True)),
                ('state', models.TextField(default='submitted', editable=False)),
                ('state_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False, help_text='As that of its run.')),
                ('cleared_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('metadata_exact', models.TextField(editable=False, null=True)),
                ('push_config', models.BinaryField(help_text='Where the agent itself tells about it, sealed.', null=True)),
            ],
            options={
                'db_table': 'task',
            },
        ),
        migrations.RemoveConstraint(
            model_name='artifact',
            name='artifact_once',
        ),
        migrations.RemoveConstraint(
            model_name='session',
            name='session_key',
        ),
        migrations.AddField(
            model_name='artifact',
            name='number',
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False, help_text='Of several that came under one id.'),
        ),
        migrations.AddField(
            model_name='artifact',
            name='told',
            field=models.JSONField(editable=False, help_text='All that an A2A agent said of it beside its parts.', null=True),
        ),
        migrations.AddField(
            model_name='artifact',
            name='told_exact',
            field=models.TextField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='feedback',
            name='raw_exact',
            field=models.TextField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='feedbackversion',
            name='raw_exact',
            field=models.TextField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='session',
            name='namespace',
            field=models.CharField(blank=True, db_default='', default='', help_text='Whose key it is, of several clients.', max_length=255),
        ),
        migrations.AlterField(
            model_name='artifact',
            name='artifact_id',
            field=models.TextField(help_text="Its client's id."),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='tell_task', sql=pgtrigger.compiler.UpsertTriggerSql(condition="WHEN (NEW.kind = 'task' AND (OLD.status, OLD.raw_status, OLD.deleted_at) IS DISTINCT FROM (NEW.status, NEW.raw_status, NEW.deleted_at))", func="\n            IF (OLD.status, OLD.raw_status) IS DISTINCT FROM (NEW.status, NEW.raw_status) THEN\n                UPDATE task SET state_at = statement_timestamp(), state = CASE\n                    WHEN OLD.raw_status <> NEW.raw_status AND NEW.raw_status <> '' THEN NEW.raw_status\n                    ELSE CASE NEW.status WHEN 'queued' THEN 'submitted' WHEN 'running' THEN 'working' WHEN 'input_required' THEN 'input-required' WHEN 'paused' THEN 'suspended' WHEN 'succeeded' THEN 'completed' WHEN 'failed' THEN 'failed' WHEN 'cancelled' THEN 'canceled' END END\n                WHERE run_id = NEW.id;\n            END IF;\n            IF NEW.deleted_at IS NOT NULL THEN\n                UPDATE task SET cleared_at = NEW.deleted_at WHERE run_id = NEW.id AND cleared_at IS NULL;\n            ELSIF OLD.deleted_at IS NOT NULL THEN\n                UPDATE task SET cleared_at = NULL WHERE run_id = NEW.id AND NOT EXISTS (\n                    SELECT FROM task AS other WHERE other.owner_id = task.owner_id\n                    AND other.namespace = task.namespace AND other.task_id = task.task_id\n                    AND other.cleared_at IS NULL\n                );\n            END IF;\n            RETURN NULL;\n        ", hash='96cc37fc8c44b9724da904c6b59995bb0821af64', operation='UPDATE OF "status", "raw_status", "deleted_at"', pgid='pgtrigger_tell_task_09f0b', table='run', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='session',
            trigger=pgtrigger.compiler.Trigger(name='tell_context', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)', func='UPDATE context SET cleared_at = NEW.deleted_at WHERE session_id = NEW.id; RETURN NULL;', hash='6690ba301e2740bb7a308225d285212c7133c2ca', operation='UPDATE OF "deleted_at"', pgid='pgtrigger_tell_context_6ff31', table='session', when='AFTER')),
        ),
        migrations.AddConstraint(
            model_name='artifact',
            constraint=models.UniqueConstraint(fields=('run', 'artifact_id', 'number'), name='artifact_once'),
        ),
        migrations.AddConstraint(
            model_name='session',
            constraint=models.UniqueConstraint(fields=('owner', 'source', 'namespace', 'key'), name='session_key'),
        ),
        migrations.AddField(
            model_name='context',
            name='owner',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='contexts', to='runs.owner'),
        ),
        migrations.AddField(
            model_name='contextmessage',
            name='context',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='own_messages', to='runs.context'),
        ),
        migrations.AddField(
            model_name='keptanswer',
            name='owner',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='kept_answers', to='runs.owner'),
        ),
        migrations.AddField(
            model_name='keptanswer',
            name='run',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='kept_answers', to='runs.run'),
        ),
        migrations.AddField(
            model_name='task',
            name='context',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='tasks', to='runs.context'),
        ),
        migrations.AddField(
            model_name='task',
            name='owner',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='tasks', to='runs.owner'),
        ),
        migrations.AddIndex(
            model_name='context',
            index=models.Index(condition=models.Q(('cleared_at', None)), fields=['owner', 'namespace', '-opened_at', '-session'], name='context_list'),
        ),
        migrations.AddConstraint(
            model_name='context',
            constraint=models.UniqueConstraint(fields=('owner', 'namespace', 'context_id'), name='context_once'),
        ),
        migrations.AddIndex(
            model_name='contextmessage',
            index=models.Index(fields=['context', 'id'], name='context_message_list'),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='contextmessage',
            trigger=pgtrigger.compiler.Trigger(name='append_only', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n            IF TG_OP = 'DELETE' AND current_setting('runfolio.purging', true) = 'on' THEN\n                RETURN OLD;\n            END IF;\n            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';\n        ", hash='d313b6aa53985c870e7fd8f0a3528742592855c6', operation='UPDATE OR DELETE', pgid='pgtrigger_append_only_73e5f', table='context_message', when='BEFORE')),
        ),
        migrations.AddIndex(
            model_name='keptanswer',
            index=models.Index(fields=['created_at'], name='kept_answer_age'),
        ),
        migrations.AddIndex(
            model_name='keptanswer',
            index=models.Index(condition=models.Q(('run__isnull', False)), fields=['run'], name='kept_answer_run'),
        ),
        migrations.AddConstraint(
            model_name='keptanswer',
            constraint=models.UniqueConstraint(fields=('owner', 'key'), name='kept_answer_once'),
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(condition=models.Q(('cleared_at', None)), fields=['owner', 'namespace', '-created_at', '-run'], name='task_list'),
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(condition=models.Q(('cleared_at', None)), fields=['owner', 'namespace', 'state', '-created_at', '-run'], name='task_state_list'),
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(condition=models.Q(('caller__isnull', False), ('cleared_at', None)), fields=['owner', 'namespace', 'caller', '-created_at', '-run'], name='task_caller_list'),
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(fields=['context', 'created_at', 'run'], name='task_context'),
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(condition=models.Q(('push_config__isnull', False)), fields=['owner', 'namespace', 'task_id'], name='task_push'),
        ),
        migrations.AddConstraint(
            model_name='task',
            constraint=models.UniqueConstraint(fields=('owner', 'task_id', 'namespace', 'cleared_at'), name='task_once', nulls_distinct=False),
        ),
        # What goes with a run or session for good.
        migrations.RunSQL(
            """
            CREATE OR REPLACE FUNCTION purge_runs(doomed uuid[], who text, why text)
            RETURNS TABLE (runs bigint, bytes bigint)
            LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
            BEGIN
                -- In one order, so that two that purge do not wait for each other.
                PERFORM FROM run WHERE id = ANY(doomed) ORDER BY id FOR UPDATE;
                PERFORM set_config('runfolio.purging', 'on', true);
                DELETE FROM search_doc WHERE run_id = ANY(doomed);
                DELETE FROM kept_answer WHERE run_id = ANY(doomed);
                DELETE FROM task WHERE run_id = ANY(doomed);
                DELETE FROM event WHERE run_id = ANY(doomed);
                DELETE FROM artifact WHERE run_id = ANY(doomed);
                DELETE FROM result WHERE run_id = ANY(doomed);
                DELETE FROM attempt WHERE run_id = ANY(doomed);
                DELETE FROM delivery WHERE run_id = ANY(doomed);
                DELETE FROM webhook WHERE run_id = ANY(doomed);
                DELETE FROM review_item WHERE run_id = ANY(doomed);
                DELETE FROM feedback_version USING feedback
                WHERE feedback.id = feedback_id AND run_id = ANY(doomed);
                DELETE FROM feedback WHERE run_id = ANY(doomed);
                UPDATE run SET judged_id = NULL WHERE judged_id = ANY(doomed);
                UPDATE run SET retried_id = NULL WHERE retried_id = ANY(doomed);
                DELETE FROM change WHERE run_id = ANY(doomed);
                RETURN QUERY
                WITH gone AS (
                    DELETE FROM run WHERE id = ANY(doomed) RETURNING owner_id, size
                ), noted AS (
                    INSERT INTO deletion (owner_id, actor, reason, runs, sessions, bytes)
                    SELECT owner_id, who, why, count(*), 0, sum(size) FROM gone GROUP BY owner_id
                )
                SELECT count(*), coalesce(sum(size), 0)::bigint FROM gone;
                PERFORM set_config('runfolio.purging', '', true);
            END
            $$;
            """,
            migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            """
            CREATE OR REPLACE FUNCTION purge_sessions(doomed uuid[], who text, why text) RETURNS bigint
            LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
            DECLARE total bigint;
            BEGIN
                -- A run that is being made holds its session, so that the second look sees it.
                PERFORM FROM session WHERE id = ANY(doomed) ORDER BY id FOR UPDATE;
                PERFORM set_config('runfolio.purging', 'on', true);
                doomed := ARRAY(
                    SELECT id FROM session WHERE id = ANY(doomed)
                    AND NOT EXISTS (SELECT FROM run WHERE session_id = session.id)
                );
                DELETE FROM context_message WHERE context_id = ANY(doomed);
                DELETE FROM context WHERE session_id = ANY(doomed);
                WITH gone AS (
                    DELETE FROM session WHERE id = ANY(doomed) RETURNING id, owner_id
                ), forgotten AS (
                    DELETE FROM change USING gone
                    WHERE object_type = 'session' AND object_id = gone.id::text
                ), noted AS (
                    INSERT INTO deletion (owner_id, actor, reason, runs, sessions, bytes)
                    SELECT owner_id, who, why, 0, count(*), 0 FROM gone GROUP BY owner_id
                )
                SELECT count(*) INTO total FROM gone;
                PERFORM set_config('runfolio.purging', '', true);
                RETURN total;
            END
            $$;
            """,
            migrations.RunSQL.noop,
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='run',
            name='tell_end',
        ),
        migrations.RemoveConstraint(
            model_name='webhook',
            name='webhook_kind',
        ),
        migrations.AddField(
            model_name='webhook',
            name='told',
            field=models.PositiveBigIntegerField(db_default=0, default=0, editable=False, help_text='What an A2A client was told last: its sequence.'),
        ),
        migrations.AlterField(
            model_name='webhook',
            name='kind',
            field=models.CharField(choices=[('stdout', 'Stdout'), ('file', 'File'), ('http_webhook', 'Http'), ('a2a_push', 'A2A Push')], max_length=20),
        ),
        migrations.AddConstraint(
            model_name='webhook',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['stdout', 'file', 'http_webhook', 'a2a_push'])), name='webhook_kind'),
        ),
        # What A2A clients are told of a task (CONTRACTS.md 2.6): the triggers push_state and push_artifact
        # call it. Whoever changes a task holds its row, so the numbers of its messages follow each other.
        migrations.RunSQL(
            """
            CREATE FUNCTION tell_push(target run, raw text, made artifact) RETURNS void
            LANGUAGE plpgsql AS $$
            DECLARE
                hook record;
                ids record;
                said record;
                event uuid := gen_random_uuid();
                what text := CASE WHEN made.id IS NULL THEN 'status-update' ELSE 'artifact-update' END;
                at text := to_char(statement_timestamp() AT TIME ZONE 'UTC',
                    'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"');
                detail text;
            BEGIN
                UPDATE webhook SET told = told + 1 WHERE run_id = target.id AND kind = 'a2a_push'
                RETURNING id, told INTO hook;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
                SELECT task.task_id, coalesce(context.context_id, target.session_id, target.id) AS context_id
                INTO ids FROM (SELECT) AS one LEFT JOIN task ON task.run_id = target.id
                LEFT JOIN context ON context.session_id = task.context_id;
                IF what = 'artifact-update' THEN
                    detail := '"artifact":' || coalesce(
                        made.told_exact,
                        (made.told || jsonb_build_object('parts', made.parts))::text,
                        format('{"artifact_id":%s,"name":%s,"parts":%s}', to_json(made.artifact_id),
                            to_json(made.name), coalesce(made.parts_exact, made.parts::text)));
                ELSE
                    SELECT role, coalesce(payload_exact, payload::text) AS message INTO said FROM event
                    WHERE run_id = target.id AND kind = 'message' ORDER BY seq DESC LIMIT 1;
                    detail := format('"status":{"state":%s,"timestamp":%s%s},"final":%s',
                        to_json(CASE WHEN raw <> '' AND ids.task_id IS NOT NULL THEN raw
                            ELSE CASE target.status WHEN 'running' THEN 'working'
                                WHEN 'input_required' THEN 'input-required' WHEN 'paused' THEN 'suspended'
                                WHEN 'succeeded' THEN 'completed' WHEN 'cancelled' THEN 'canceled'
                                ELSE target.status END END),
                        to_json(at),
                        CASE WHEN target.status = 'input_required' AND said.role = 'agent'
                            THEN ',"message":' || said.message ELSE '' END,
                        to_json(target.finished_at IS NOT NULL));
                END IF;
                INSERT INTO delivery (message_id, run_id, webhook_id, phase, body, state, tries, error)
                VALUES (event, target.id, hook.id, what,
                    format('{"event_id":%s,"sequence":%s,"timestamp":%s,"kind":%s,"task_id":%s,'
                        '"context_id":%s,%s}', to_json(event), hook.told, to_json(at), to_json(what),
                        to_json(coalesce(ids.task_id, target.id)), to_json(ids.context_id), detail),
                    'waiting', 0, '');
            END
            $$;
            """,
            migrations.RunSQL.noop,
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='artifact',
            trigger=pgtrigger.compiler.Trigger(name='push_artifact', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n            IF EXISTS (SELECT FROM webhook WHERE run_id = NEW.run_id AND kind = 'a2a_push') THEN\n                PERFORM tell_push(run, NULL, NEW) FROM run WHERE id = NEW.run_id AND kind = 'task';\n            END IF;\n            RETURN NULL;\n        ", hash='9cd1b1cab5b46d4b9c9ada1ed36a72903e22f667', operation='INSERT OR UPDATE OF "name", "parts", "parts_exact", "told", "told_exact"', pgid='pgtrigger_push_artifact_240d0', table='artifact', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='tell_end', sql=pgtrigger.compiler.UpsertTriggerSql(condition="WHEN (NEW.status IN ('succeeded', 'failed', 'cancelled') AND OLD.status NOT IN ('succeeded', 'failed', 'cancelled'))", func="\n                IF NOT EXISTS (SELECT FROM webhook WHERE run_id = NEW.id) THEN\n                    RETURN NULL;\n                END IF;\n                INSERT INTO delivery (run_id, webhook_id, phase, body, state, tries, error)\n                SELECT NEW.id, webhook.id,\n                    CASE NEW.status WHEN 'succeeded' THEN 'final' ELSE 'error' END,\n                    CASE NEW.status WHEN 'succeeded' THEN\n                        json_build_object('phase', 'final', 'run_id', NEW.id, 'attempt', NEW.attempt,\n                            'summary', NEW.summary)\n                    ELSE\n                        json_build_object('phase', 'error', 'run_id', NEW.id, 'attempt', NEW.attempt,\n                            'error', coalesce(NEW.error, CASE NEW.status\n                                WHEN 'cancelled' THEN 'cancelled by request' ELSE 'failed' END))\n                    END::text, 'waiting', 0, ''\n                FROM webhook WHERE webhook.run_id = NEW.id AND webhook.kind <> 'a2a_push'\n                ORDER BY webhook.position, webhook.id;\n                RETURN NULL;\n            ", hash='f1c6e695d04120cfc57c1ad77cc1ca9dc5ac5d36', operation='UPDATE OF "status"', pgid='pgtrigger_tell_end_99751', table='run', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='push_state', sql=pgtrigger.compiler.UpsertTriggerSql(condition="WHEN (NEW.kind = 'task' AND NEW.status <> 'queued' AND (NEW.status, NEW.raw_status) IS DISTINCT FROM (OLD.status, OLD.raw_status))", constraint='CONSTRAINT', func='\n            PERFORM tell_push(NEW, nullif(NEW.raw_status, OLD.raw_status), NULL);\n            RETURN NULL;\n        ', hash='e4cd6ef0595dcdb221bd71f8f57dae205d7321bb', operation='UPDATE OF "status", "raw_status"', pgid='pgtrigger_push_state_62168', table='run', timing='DEFERRABLE INITIALLY DEFERRED', when='AFTER')),
        ),
    ]
