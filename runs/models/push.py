"""Where an A2A client wants to be told how a task goes on: a webhook of the task, which has one at a time.

Its messages are CONTRACTS.md 2.6's. They are written by triggers (triggers.push_state, push_artifact), in the
transaction that they tell of, and delivered as all that the outbox holds (models.webhook).
"""

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from runs.exact import Json, clean_text
from runs.models.run import Run
from runs.models.webhook import Webhook
from runs.outgoing import host_of
from runs.redaction import redacted_url
from runs.sealing import open_sealed, seal


def keep_push(run: Run, config: dict[str, Json]) -> None:
    """Tells `config["url"]` from now on, instead of whom it told before; what waits goes there, too."""
    url = str(config["url"])
    kept = {
        "external_id": str(config["id"]),
        "shown": clean_text(redacted_url(url)),
        "host": clean_text(host_of(url)),
        "sealed": seal(config),
        "partial": False,
    }
    with transaction.atomic():
        _hold(run)
        Webhook.objects.update_or_create(run=run, kind=Webhook.Kind.A2A_PUSH, defaults=kept)


def push_of(run: Run) -> dict[str, Any] | None:
    """The configuration as it was given. Raises runs.sealing.Unsealable."""
    sealed = _of(run).values_list("sealed", flat=True).first()
    if sealed is None:
        return None
    config: dict[str, Any] = open_sealed(sealed)
    return config


def forget_push(run: Run) -> None:
    """Nothing more goes there, also of what waits."""
    with transaction.atomic():
        _hold(run)
        _of(run).delete()


def push_headers(config: Mapping[str, Any]) -> dict[str, str]:
    """How the receiver knows who sends (CONTRACTS.md 2.6)."""
    token = config.get("token")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _of(run: Run) -> QuerySet[Webhook]:
    found: QuerySet[Webhook] = Webhook.objects.filter(run=run, kind=Webhook.Kind.A2A_PUSH)
    return found


def _hold(run: Run) -> None:
    """Whoever tells something of the run holds it, so that nothing is left over that nobody delivers."""
    Run.objects.select_for_update(of=("self",)).only("pk").get(pk=run.pk)
