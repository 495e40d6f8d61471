import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0009_imports")]

    operations = [
        migrations.CreateModel(
            name="Conversation",
            fields=[
                (
                    "namespace",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="conversation",
                        serialize=False,
                        to="runs.filenamespace",
                    ),
                ),
                (
                    "key",
                    models.TextField(blank=True, default="", help_text="Its id, as base_state.json has it."),
                ),
                ("session_id", models.UUIDField(null=True)),
                (
                    "run_id",
                    models.UUIDField(
                        help_text="The burst of work that its last events belong to.", null=True
                    ),
                ),
                (
                    "next_index",
                    models.PositiveBigIntegerField(default=0, help_text="Of the event that is read next."),
                ),
                (
                    "last_path",
                    models.TextField(blank=True, default="", help_text="Of the event that was read last."),
                ),
                (
                    "read_count",
                    models.PositiveBigIntegerField(default=0, help_text="Event files that were read."),
                ),
                (
                    "replaying",
                    models.BooleanField(
                        default=False,
                        help_text="It is read once more from its beginning, past what is known.",
                    ),
                ),
                (
                    "damaged",
                    models.JSONField(default=dict, help_text="Paths that could not be read, with their MD5."),
                ),
                (
                    "has_acted",
                    models.BooleanField(default=False, help_text="The agent has, in the current run."),
                ),
                ("outcome", models.CharField(blank=True, default="", max_length=20)),
                ("run_began_at", models.DateTimeField(null=True)),
                ("last_event_at", models.DateTimeField(null=True)),
                (
                    "response_id",
                    models.TextField(blank=True, default="", help_text="Of the last answer of a model."),
                ),
                (
                    "input_tokens",
                    models.PositiveBigIntegerField(default=0, help_text="That its runs have been given."),
                ),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cost", models.DecimalField(decimal_places=6, default=0, max_digits=14)),
                ("looked_at", models.DateTimeField(null=True)),
                (
                    "due_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="It is not looked at before.",
                    ),
                ),
                ("failures", models.PositiveIntegerField(default=0, help_text="In a row.")),
                ("error", models.TextField(blank=True, default="", help_text="Why the last look failed.")),
            ],
            options={
                "db_table": "conversation",
                "indexes": [models.Index(fields=["session_id"], name="conversation_session")],
            },
        ),
    ]
