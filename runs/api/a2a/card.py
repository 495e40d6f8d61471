"""The agent card: what Runfolio is to an A2A client, in the camelCase of cards (CONTRACTS.md 2.5)."""

import importlib.metadata
from functools import cache
from uuid import NAMESPACE_URL, uuid5

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from runs.access import public
from runs.exact import Json

PROTOCOL = "1.0.0"
_MODES = ["application/json"]

_DESCRIPTION = (
    "Keeps the run history of agents. It runs no agent: it gives their tasks back, takes feedback on them, "
    "cancels and clears them, and tells who asks for it how they go on."
)
# Their methods stand first in the description: a client that knows the method finds the skill.
_SKILLS = {
    "read-history": (
        "Read the history of tasks",
        "tasks/get, tasks/list and contexts/list: history, artifacts and state of every task recorded here.",
        ["history", "tasks", "contexts"],
    ),
    "rate": ("Rate tasks", "tasks/feedback: a rating from 1 to 5, a comment, metadata.", ["feedback"]),
    "cancel-and-clear": (
        "Cancel tasks and clear contexts",
        "tasks/cancel ends a task at once; contexts/clear puts a context and its tasks away.",
        ["cancel", "clear"],
    ),
    "notify": (
        "Tell of changes",
        "tasks/pushNotificationConfig/set, get, list and delete: each change of a task is posted to a URL.",
        ["push-notifications"],
    ),
}


@public
@require_safe
def card(request: HttpRequest) -> HttpResponse:
    """Open to everybody: it holds nothing of any owner."""
    return JsonResponse(agent_card(settings.PUBLIC_URL))


def agent_card(address: str) -> dict[str, Json]:
    """All that Bindu's schema of a card demands, for the Runfolio at `address`."""
    return {
        "id": str(uuid5(NAMESPACE_URL, address)),
        "name": "Runfolio",
        "description": _DESCRIPTION,
        "url": f"{address}/a2a",
        "version": _version(),
        "protocolVersion": PROTOCOL,
        "preferredTransport": "JSONRPC",
        "kind": "agent",
        "capabilities": {"pushNotifications": True, "stateTransitionHistory": False, "streaming": False},
        "skills": [
            {
                "id": skill_id,
                "name": name,
                "description": description,
                "tags": tags,
                "inputModes": _MODES,
                "outputModes": _MODES,
            }
            for skill_id, (name, description, tags) in _SKILLS.items()
        ],
        "defaultInputModes": _MODES,
        "defaultOutputModes": _MODES,
        "security": [{"bearer": []}],
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "A token of Runfolio's."}
        },
        "agentTrust": {
            "identityProvider": "custom",
            "inheritedRoles": [],
            "creatorId": "runfolio",
            "creationTimestamp": 0,
            "trustVerificationRequired": False,
            "allowedOperations": {},
        },
        "numHistorySessions": 0,
        "extraData": {},
        "debugMode": False,
        "debugLevel": 1,
        "monitoring": False,
        "telemetry": False,
    }


@cache
def _version() -> str:
    """Of a source tree that is not installed none is known."""
    try:
        return importlib.metadata.version("runfolio")
    except importlib.metadata.PackageNotFoundError:
        return "0"
