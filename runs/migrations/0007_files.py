import django.db.models.deletion
import django.db.models.functions.datetime
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('runs', '0006_tasks'),
    ]

    operations = [
        migrations.CreateModel(
            name='FileNamespace',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=500)),
                ('version', models.BigIntegerField(db_default=1, default=1, editable=False)),
                ('read_version', models.BigIntegerField(db_default=0, default=0, editable=False)),
                ('unread', models.GeneratedField(db_persist=True, expression=models.Q(('version__gt', models.F('read_version'))), output_field=models.BooleanField())),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('owner', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='file_namespaces', to='runs.owner')),
            ],
            options={
                'db_table': 'file_namespace',
                'ordering': ['-id'],
                'indexes': [models.Index(condition=models.Q(('unread', True)), fields=['id'], name='file_namespace_unread')],
                'constraints': [models.UniqueConstraint(fields=('owner', 'name'), name='file_namespace_once')],
            },
        ),
        migrations.CreateModel(
            name='File',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('path', models.CharField(db_collation='C', help_text='Without a slash in front.', max_length=1000)),
                ('content', models.BinaryField()),
                ('size', models.GeneratedField(db_persist=True, expression=models.Func(models.F('content'), function='octet_length'), output_field=models.IntegerField())),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('namespace', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='files', to='runs.filenamespace')),
            ],
            options={
                'db_table': 'file',
                'ordering': ['namespace', 'path'],
                'constraints': [models.UniqueConstraint(fields=('namespace', 'path'), name='file_once'), models.CheckConstraint(condition=models.Q(('path', ''), _negated=True), name='file_has_a_path')],
            },
        ),
        migrations.CreateModel(
            name='FileLock',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('path', models.CharField(db_collation='C', max_length=1000)),
                ('key', models.UUIDField(null=True)),
                ('until', models.DateTimeField()),
                ('next_key', models.UUIDField(null=True)),
                ('next_until', models.DateTimeField(null=True)),
                ('namespace', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='locks', to='runs.filenamespace')),
            ],
            options={
                'db_table': 'file_lock',
                'ordering': ['-id'],
                'constraints': [models.UniqueConstraint(fields=('namespace', 'path'), name='file_lock_once')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='file',
            trigger=pgtrigger.compiler.Trigger(name='note_files', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n            IF coalesce(NEW.path, OLD.path) ~ '(^|/)\\.eventlog-len-\\d+\\.marker$' THEN\n                RETURN NULL;\n            END IF;\n            UPDATE file_namespace SET version = version + 1, updated_at = statement_timestamp()\n            WHERE id IN (OLD.namespace_id, NEW.namespace_id) AND xmin <> pg_current_xact_id()::xid;\n            RETURN NULL;\n        ", hash='de9e5066cfdc9b889165d745b6809eaf3d83fd73', operation='INSERT OR UPDATE OR DELETE', pgid='pgtrigger_note_files_8e546', table='file', when='AFTER')),
        ),
        migrations.RunSQL(
            r"""
            -- Both have rows that are updated all the time, on their page as long as it has room.
            ALTER TABLE file_namespace SET (fillfactor = 70);
            ALTER TABLE file_lock SET (fillfactor = 70);

            -- The namespace of that name, made if it is new.
            CREATE FUNCTION file_room(whose bigint, room text) RETURNS bigint LANGUAGE plpgsql AS $$
            DECLARE
                found_id bigint;
            BEGIN
                LOOP
                    SELECT id INTO found_id FROM file_namespace WHERE owner_id = whose AND name = room;
                    EXIT WHEN found_id IS NOT NULL;
                    INSERT INTO file_namespace (owner_id, name) VALUES (whose, room) ON CONFLICT DO NOTHING;
                END LOOP;
                RETURN found_id;
            END
            $$;

            -- Writes a file and says 'written', or writes nothing and says why: 'is a directory', 'not a
            -- directory', or 'lock lost', where it was to be written under a lease that is another's by now.
            -- With `count` the file is OpenHands' event of that number, and the marker of the log's length
            -- moves with it; without that marker it says 'out of step'.
            CREATE FUNCTION file_write(
                whose bigint, room text, at text, body bytea,
                lease_at text DEFAULT NULL, lease_key uuid DEFAULT NULL, count bigint DEFAULT NULL
            ) RETURNS text LANGUAGE plpgsql AS $$
            DECLARE
                place bigint := file_room(whose, room);
                folders text[] := string_to_array(at, '/');
                marker text := regexp_replace(at, '[^/]*$', '.eventlog-len-');
            BEGIN
                IF file_lease_is_lost(whose, room, lease_at, lease_key) THEN
                    RETURN 'lock lost';
                END IF;
                IF count IS NOT NULL THEN
                    DELETE FROM file WHERE namespace_id = place AND path = marker || count || '.marker';
                    IF NOT FOUND THEN
                        RETURN 'out of step';
                    END IF;
                END IF;
                UPDATE file SET content = body, updated_at = statement_timestamp()
                WHERE namespace_id = place AND path = at;
                IF NOT FOUND THEN
                    IF EXISTS (
                        SELECT FROM file WHERE namespace_id = place AND path >= at || '/' AND path < at || '0'
                    ) THEN
                        RETURN 'is a directory';
                    END IF;
                    IF cardinality(folders) > 1 AND EXISTS (
                        SELECT FROM file WHERE namespace_id = place AND path = ANY (
                            SELECT array_to_string(folders[:depth], '/')
                            FROM generate_series(1, cardinality(folders) - 1) AS depth
                        )
                    ) THEN
                        RETURN 'not a directory';
                    END IF;
                    INSERT INTO file (namespace_id, path, content) VALUES (place, at, body)
                    ON CONFLICT (namespace_id, path)
                    DO UPDATE SET content = excluded.content, updated_at = statement_timestamp();
                END IF;
                IF count IS NOT NULL THEN
                    INSERT INTO file (namespace_id, path, content)
                    VALUES (place, marker || count + 1 || '.marker', '') ON CONFLICT DO NOTHING;
                END IF;
                RETURN 'written';
            END
            $$;

            -- Deletes a file, or a folder with all that is in it; an empty path means everything. It says
            -- 'deleted', also where nothing was there, or 'lock lost' as `file_write` does.
            CREATE FUNCTION file_delete(
                whose bigint, room text, at text, lease_at text DEFAULT NULL, lease_key uuid DEFAULT NULL
            ) RETURNS text LANGUAGE plpgsql AS $$
            DECLARE
                place bigint := (SELECT id FROM file_namespace WHERE owner_id = whose AND name = room);
            BEGIN
                IF file_lease_is_lost(whose, room, lease_at, lease_key) THEN
                    RETURN 'lock lost';
                END IF;
                IF at = '' THEN
                    DELETE FROM file WHERE namespace_id = place;
                ELSE
                    DELETE FROM file WHERE namespace_id = place AND path = at;
                    DELETE FROM file WHERE namespace_id = place AND path >= at || '/' AND path < at || '0';
                END IF;
                RETURN 'deleted';
            END
            $$;

            -- Whether somebody else may have held that lease since. Nobody takes it over before this ends.
            CREATE FUNCTION file_lease_is_lost(whose bigint, room text, at text, lease_key uuid)
            RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN
                IF lease_key IS NULL THEN
                    RETURN false;
                END IF;
                PERFORM FROM file_lock JOIN file_namespace ON file_namespace.id = namespace_id
                WHERE owner_id = whose AND name = room AND path = at AND key = lease_key
                FOR SHARE OF file_lock;
                RETURN NOT FOUND;
            END
            $$;

            -- The lengths that OpenHands' markers name in the folder of a path: one at most, where all is well.
            CREATE FUNCTION file_marks(whose bigint, room text, at text)
            RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
            DECLARE
                marker text := regexp_replace(at, '[^/]*$', '.eventlog-len-');
            BEGIN
                RETURN coalesce(array_agg(substring(path FROM '-(0|[1-9]\d{0,17})\.marker$')::bigint), '{}')
                FROM file JOIN file_namespace ON file_namespace.id = namespace_id
                WHERE owner_id = whose AND name = room
                AND path >= marker AND path < left(marker, -1) || '.' AND path ~ '-(0|[1-9]\d{0,17})\.marker$';
            END
            $$;

            -- The number of the advisory lock beside a path.
            CREATE FUNCTION file_lock_number(room text, at text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
                SELECT ('x' || encode(substring(
                    sha256(convert_to(room, 'UTF8') || '\x00'::bytea || convert_to(at, 'UTF8')) FOR 8
                ), 'hex'))::bit(64)::bigint
            $$;

            -- Goes on with a lease, unless it is another's by now.
            CREATE FUNCTION file_keep_lease(
                whose bigint, room text, at text, its_key uuid, seconds double precision
            ) RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM set_config('synchronous_commit', 'off', true);
                UPDATE file_lock SET until = clock_timestamp() + make_interval(secs => seconds)
                FROM file_namespace
                WHERE file_namespace.id = namespace_id AND owner_id = whose AND name = room
                AND path = at AND key = its_key;
                RETURN FOUND;
            END
            $$;

            -- Takes the lease of a path; `marks` is null where somebody else holds it.
            -- Whoever waits with the advisory lock goes first, and then whoever asked first and still asks: one
            -- who gives `old_key` back in the same breath could keep the others waiting for ever. A lease need
            -- not outlive a crash of the server: what is written under a lost one is refused.
            CREATE FUNCTION file_take_lease(
                whose bigint, room text, at text, new_key uuid, seconds double precision, old_key uuid,
                OUT marks bigint[]
            ) LANGUAGE plpgsql AS $$
            DECLARE
                place bigint := file_room(whose, room);
                at_once timestamptz := clock_timestamp();
                ends timestamptz := at_once + make_interval(secs => seconds);
            BEGIN
                PERFORM set_config('synchronous_commit', 'off', true);
                IF NOT file_keep_lease(whose, room, at, new_key, seconds) THEN  -- it was asked for twice
                    IF NOT pg_try_advisory_xact_lock(file_lock_number(room, at)) THEN
                        PERFORM file_give_lease_back(whose, room, at, old_key);
                        RETURN;
                    END IF;
                    INSERT INTO file_lock AS held (namespace_id, path, key, until)
                    VALUES (place, at, new_key, ends)
                    ON CONFLICT (namespace_id, path) DO UPDATE SET key = new_key, until = ends, next_key = NULL
                    WHERE (held.key IS NULL OR held.key = old_key OR held.until <= at_once)
                    AND (held.next_key IS NULL OR held.next_key = new_key OR held.next_until <= at_once);
                    IF NOT FOUND THEN
                        PERFORM file_give_lease_back(whose, room, at, old_key);
                        UPDATE file_lock SET next_key = new_key, next_until = at_once + interval '0.2 seconds'
                        WHERE namespace_id = place AND path = at
                        AND (next_key IS NULL OR next_key = new_key OR next_until <= at_once);
                        RETURN;
                    END IF;
                END IF;
                marks := file_marks(whose, room, at);
            END
            $$;

            CREATE FUNCTION file_give_lease_back(whose bigint, room text, at text, old_key uuid)
            RETURNS void LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM set_config('synchronous_commit', 'off', true);
                UPDATE file_lock SET key = NULL FROM file_namespace
                WHERE file_namespace.id = namespace_id AND owner_id = whose AND name = room
                AND path = at AND key = old_key;
            END
            $$;

            -- Whether a lease keeps one waiting who holds the advisory lock. One that is over ends here.
            CREATE FUNCTION file_is_leased(whose bigint, room text, at text)
            RETURNS boolean LANGUAGE plpgsql AS $$
            DECLARE
                place bigint := (SELECT id FROM file_namespace WHERE owner_id = whose AND name = room);
            BEGIN
                UPDATE file_lock SET key = NULL
                WHERE namespace_id = place AND path = at AND key IS NOT NULL AND until <= clock_timestamp();
                RETURN EXISTS (
                    SELECT FROM file_lock WHERE namespace_id = place AND path = at AND key IS NOT NULL
                );
            END
            $$;

            -- The advisory lock of a path without waiting: 'taken', or 'leased' with the lock in hand, or
            -- 'locked'; and then what `file_marks` says.
            CREATE FUNCTION file_try_lock(
                whose bigint, room text, at text, number bigint, OUT answer text, OUT marks bigint[]
            ) LANGUAGE plpgsql AS $$
            BEGIN
                IF NOT pg_try_advisory_lock(number) THEN
                    answer := 'taken';
                ELSIF file_is_leased(whose, room, at) THEN
                    answer := 'leased';
                ELSE
                    answer := 'locked';
                    marks := file_marks(whose, room, at);
                END IF;
            END
            $$;
            """,
            """
            DROP FUNCTION file_try_lock, file_is_leased, file_give_lease_back, file_take_lease, file_keep_lease,
                file_lock_number, file_marks, file_lease_is_lost, file_delete, file_write, file_room
            """,
        ),
    ]
