"""Secrets of the specs that are there already go into the one encrypted column."""

import json

from django.conf import settings
from django.core.management.base import CommandError
from django.db import migrations

from runs.exact import join_exact, split_exact
from runs.redaction import split_secrets
from runs.sealing import seal

_AT_ONCE = 500


def seal_specs(apps, schema_editor):
    run = apps.get_model("runs", "Run")
    # What the trigger would keep of the change is just what is to go.
    name = "pgtrigger_spec_alterations_14c63"
    schema_editor.execute(f"ALTER TABLE run DISABLE TRIGGER {name}")
    todo = run.objects.using(schema_editor.connection.alias).filter(kind="evaluation", secrets=None)
    last = None
    while rows := list((todo.filter(pk__gt=last) if last else todo).order_by("pk")[:_AT_ONCE]):
        last = rows[-1].pk
        for row in rows:
            _seal(todo, row)
    schema_editor.execute(f"ALTER TABLE run ENABLE TRIGGER {name}")


def _seal(runs, row):
    spec = join_exact(row.spec, row.spec_exact)
    if not isinstance(spec, dict):
        return
    shown, secrets = split_secrets(spec)
    if secrets is None:
        return
    if not settings.SECRET_KEY_IS_KEPT:
        raise CommandError("Specs with secrets are to be encrypted: set SECRET_KEY to the one that serves.")
    held, exact = split_exact(shown)
    size = row.size + len(json.dumps(shown)) - len(json.dumps(spec))
    runs.filter(pk=row.pk).update(spec=held, spec_exact=exact, secrets=seal(secrets), size=max(size, 0))


class Migration(migrations.Migration):
    dependencies = [("runs", "0003_pipeline")]

    operations = [migrations.RunPython(seal_specs, migrations.RunPython.noop)]
