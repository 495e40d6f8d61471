import django.contrib.postgres.fields
import django.db.models.functions.comparison
import django.contrib.postgres.indexes
import django.contrib.postgres.fields.ranges
import django.db.models.deletion
import django.db.models.functions.datetime
import pgtrigger.compiler
import pgtrigger.migrations
import runs.models.ids
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('runs', '0004_seal'),
    ]

    operations = [
        migrations.AddField(
            model_name='user',
            name='time_zone',
            field=models.CharField(blank=True, db_default='', default='', help_text='Such as Europe/Berlin; empty is UTC.', max_length=64),
        ),
        migrations.CreateModel(
            name='ReviewQueue',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100)),
                ('instructions', models.TextField(blank=True, default='')),
                ('query', models.TextField(blank=True, default='', help_text='What its runs were chosen by.')),
                ('criteria', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=100), blank=True, default=list, help_text='Their keys.')),
                ('created_by', models.TextField(help_text='An actor, such as user:7.')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('closed_at', models.DateTimeField(blank=True, null=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='review_queues', to='runs.owner')),
            ],
            options={
                'db_table': 'review_queue',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='ReviewItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('open', 'Open'), ('done', 'Done'), ('skipped', 'Skipped')], default='open', max_length=10)),
                ('reserved_until', models.DateTimeField(blank=True, null=True)),
                ('ended_by', models.TextField(blank=True, default='', help_text='Who did or skipped it: an actor.')),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('reserved_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='review_items', to='runs.run')),
                ('queue', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='items', to='runs.reviewqueue')),
            ],
            options={
                'db_table': 'review_item',
                'ordering': ['queue', 'id'],
            },
        ),
        migrations.CreateModel(
            name='SavedView',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60)),
                ('query', models.TextField(blank=True, default='', help_text='As it is typed; ages stay ages.')),
                ('columns', django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), blank=True, default=list, help_text='Empty: those by default.')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('author', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='saved_views', to=settings.AUTH_USER_MODEL)),
                ('owner', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='saved_views', to='runs.owner')),
            ],
            options={
                'db_table': 'saved_view',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='BulkJob',
            fields=[
                ('id', models.UUIDField(default=runs.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('actor', models.TextField(help_text='The person as the record names them for good.')),
                ('by', models.TextField(help_text='What they were called then.')),
                ('action', models.CharField(choices=[('cancel', 'Cancel'), ('retry', 'Retry'), ('delete', 'Delete'), ('restore', 'Restore'), ('review', 'Review')], max_length=10)),
                ('query', models.TextField(blank=True, default='')),
                ('owners', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField())),
                ('until', models.DateTimeField(help_text='Runs that were made later are not meant.')),
                ('reason', models.TextField(blank=True, default='')),
                ('options', models.JSONField(blank=True, default=dict, help_text='The runs that were chosen, the queue, or the job that it undoes.')),
                ('counted', models.PositiveIntegerField(help_text='Runs that were confirmed.')),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('done', 'Done'), ('stopped', 'Stopped'), ('failed', 'Failed')], default='queued', max_length=10)),
                ('done_count', models.PositiveIntegerField(default=0)),
                ('skipped_count', models.PositiveIntegerField(default=0)),
                ('skipped', models.JSONField(default=dict, help_text='Why, and how many each.')),
                ('cursor', models.TextField(blank=True, default='')),
                ('error', models.TextField(blank=True, default='')),
                ('worker_id', models.TextField(blank=True, default='', help_text='Who did the last of it.')),
                ('stop_requested_at', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('started_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('person', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='bulk_jobs', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'bulk_job',
                'ordering': ['-id'],
                'indexes': [models.Index(condition=models.Q(('state__in', ['queued', 'running'])), fields=['id'], name='bulk_job_open'), models.Index(fields=['person', '-id'], name='bulk_job_of_person')],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ['queued', 'running', 'done', 'stopped', 'failed'])), name='bulk_job_state'), models.CheckConstraint(condition=models.Q(models.Q(('finished_at', None), ('state__in', ['queued', 'running'])), models.Q(('finished_at__isnull', False), ('state__in', ['done', 'stopped', 'failed'])), _connector='OR'), name='bulk_job_finished')],
            },
        ),
        migrations.CreateModel(
            name='Criterion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.SlugField(max_length=100)),
                ('label', models.CharField(max_length=60)),
                ('description', models.TextField(blank=True, default='', help_text='What 1 and 5 mean, for reviewers.')),
                ('position', models.PositiveSmallIntegerField(default=0)),
                ('retired_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='criteria', to='runs.owner')),
            ],
            options={
                'verbose_name_plural': 'criteria',
                'db_table': 'criterion',
                'ordering': ['position', 'id'],
                'constraints': [models.UniqueConstraint(fields=('owner', 'key'), name='criterion_once'), models.CheckConstraint(condition=models.Q(('key', ''), _negated=True), name='criterion_has_a_key')],
            },
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('deleted_at__isnull', False)), fields=['owner', '-deleted_at', '-id'], name='run_deleted_list'),
        ),
        migrations.AddConstraint(
            model_name='reviewqueue',
            constraint=models.UniqueConstraint(fields=('owner', 'name'), name='review_queue_once'),
        ),
        migrations.AddIndex(
            model_name='reviewitem',
            index=models.Index(condition=models.Q(('state', 'open')), fields=['queue', 'id'], name='review_item_next'),
        ),
        migrations.AddIndex(
            model_name='reviewitem',
            index=models.Index(fields=['queue', 'state', 'ended_at'], name='review_item_ended_list'),
        ),
        migrations.AddIndex(
            model_name='reviewitem',
            index=models.Index(fields=['run'], name='review_item_run'),
        ),
        migrations.AddIndex(
            model_name='reviewitem',
            index=models.Index(condition=models.Q(('state', 'open'), _negated=True), fields=['queue', 'ended_by', 'ended_at'], name='review_item_of_person'),
        ),
        migrations.AddConstraint(
            model_name='reviewitem',
            constraint=models.UniqueConstraint(fields=('queue', 'run'), name='review_item_once'),
        ),
        migrations.AddConstraint(
            model_name='reviewitem',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['open', 'done', 'skipped'])), name='review_item_state'),
        ),
        migrations.AddConstraint(
            model_name='reviewitem',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('ended_at', None), ('state', 'open')), models.Q(models.Q(('state', 'open'), _negated=True), ('ended_at__isnull', False)), _connector='OR'), name='review_item_ended'),
        ),
        migrations.AddConstraint(
            model_name='reviewitem',
            constraint=models.CheckConstraint(condition=models.Q(('reserved_by', None), ('reserved_until__isnull', False), _connector='OR'), name='review_item_reserved'),
        ),
        migrations.AddConstraint(
            model_name='savedview',
            constraint=models.UniqueConstraint(condition=models.Q(('owner', None)), fields=('author', 'name'), name='saved_view_private_once'),
        ),
        migrations.AddConstraint(
            model_name='savedview',
            constraint=models.UniqueConstraint(condition=models.Q(('owner__isnull', False)), fields=('owner', 'name'), name='saved_view_shared_once'),
        ),
        migrations.CreateModel(
            name='Upload',
            fields=[
                ('id', models.UUIDField(default=runs.models.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('traces', 'Traces'), ('eval_set', 'Eval Set')], max_length=10)),
                ('name', models.TextField()),
                ('content', models.BinaryField()),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'db_table': 'upload',
                'ordering': ['id'],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='membership',
            trigger=pgtrigger.compiler.Trigger(name='note_membership', sql=pgtrigger.compiler.UpsertTriggerSql(declare="DECLARE reason text := coalesce(current_setting('runfolio.reason', true), ''); correcting boolean := reason <> ''; request text := coalesce(current_setting('runfolio.request_id', true), ''); actor text := coalesce(nullif(current_setting('runfolio.actor', true), ''), 'database:' || session_user);", func="\n            IF (TG_OP = 'INSERT' AND NOT correcting)\n            OR (TG_OP = 'UPDATE' AND OLD.role IS NOT DISTINCT FROM NEW.role) THEN\n                RETURN NULL;\n            END IF;\n            INSERT INTO change (actor, reason, request_id, object_type, object_id, run_id, field, old, new)\n            VALUES (\n                actor, reason, request, TG_TABLE_NAME,\n                'user:' || coalesce(NEW.user_id, OLD.user_id)\n                    || ' owner:' || coalesce(NEW.owner_id, OLD.owner_id),\n                NULL, 'role', to_jsonb(OLD.role), to_jsonb(NEW.role)\n            );\n            RETURN NULL;\n        ", hash='68a7036519f7bf953faa2cc3dd5b6dc42e9e5de3', operation='INSERT OR UPDATE OF "role" OR DELETE', pgid='pgtrigger_note_membership_5bd32', table='membership', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='owner',
            trigger=pgtrigger.compiler.Trigger(name='alterations', sql=pgtrigger.compiler.UpsertTriggerSql(declare="DECLARE reason text := coalesce(current_setting('runfolio.reason', true), ''); correcting boolean := reason <> ''; request text := coalesce(current_setting('runfolio.request_id', true), ''); actor text := coalesce(nullif(current_setting('runfolio.actor', true), ''), 'database:' || session_user);", func="\n            IF OLD.name IS DISTINCT FROM NEW.name AND (OLD.name IS NOT NULL AND OLD.name::text <> '') THEN\n                INSERT INTO change\n                    (actor, reason, request_id, object_type, object_id, run_id, field, old, new)\n                VALUES\n                    (actor, reason, request, TG_TABLE_NAME, OLD.id::text, NULL::uuid, 'name',\n                     to_jsonb(OLD.name), to_jsonb(NEW.name));\n            END IF;\nRETURN NULL;", hash='4e194a741b04cd0c3f136fea7c0a6da9a01e1e3c', operation='UPDATE OF "name"', pgid='pgtrigger_alterations_06719', table='owner', when='AFTER')),
        ),
        migrations.AddField(
            model_name='upload',
            name='person',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='uploads', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='upload',
            index=models.Index(fields=['created_at'], name='upload_age'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=django.contrib.postgres.indexes.GistIndex(models.Func(django.db.models.functions.comparison.Least('created_at', 'started_at'), django.db.models.functions.comparison.Greatest('created_at', 'started_at', 'last_activity_at', 'completed_at'), django.contrib.postgres.fields.ranges.RangeBoundary(inclusive_lower=True, inclusive_upper=True), function='TSTZRANGE', output_field=django.contrib.postgres.fields.ranges.DateTimeRangeField()), name='session_lasted'),
        ),
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
    ]
