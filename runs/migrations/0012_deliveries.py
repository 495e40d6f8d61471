from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0011_callers"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="delivery",
            options={"ordering": ["run", "id"], "verbose_name_plural": "deliveries"},
        ),
    ]
