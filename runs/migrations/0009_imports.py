import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0008_spans")]

    operations = [
        migrations.CreateModel(
            name='ImportPosition',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('system', models.CharField(help_text='Such as bindu.', max_length=50)),
                ('place', models.TextField(help_text='The database: host, port and name, never a password.')),
                ('part', models.TextField(help_text='What is read of it: a schema and a table.')),
                ('at', models.DateTimeField(help_text="By the source's clock.", null=True)),
                ('read_count', models.PositiveBigIntegerField(default=0)),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('owner', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='runs.owner')),
            ],
            options={
                'db_table': 'import_position',
                'constraints': [models.UniqueConstraint(fields=('owner', 'system', 'place', 'part'), name='import_position_once')],
            },
        ),
        migrations.CreateModel(
            name='Imported',
            fields=[
                ('run', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to='runs.run')),
                ('state', models.TextField(help_text="In the source's words.")),
                ('messages', models.PositiveIntegerField(default=0)),
                ('artifacts', models.PositiveIntegerField(default=0)),
                ('changed_at', models.DateTimeField(help_text="By the source's clock.", null=True)),
            ],
            options={
                'verbose_name_plural': 'imported',
                'db_table': 'imported',
            },
        ),
        migrations.RunSQL(
            """
            ALTER TABLE imported ADD CONSTRAINT imported_run_id_fk FOREIGN KEY (run_id) REFERENCES run (id)
            ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
            """,
            "ALTER TABLE imported DROP CONSTRAINT imported_run_id_fk",
        ),
    ]
