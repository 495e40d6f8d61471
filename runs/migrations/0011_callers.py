from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0010_conversations"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="context",
            index=models.Index(
                condition=models.Q(("caller__isnull", False), ("cleared_at", None)),
                fields=["owner", "namespace", "caller", "-opened_at", "-session"],
                name="context_caller_list",
            ),
        ),
    ]
