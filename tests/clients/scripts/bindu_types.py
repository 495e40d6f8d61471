"""Reads what /a2a answers as Bindu's own clients do: `bindu_types.py FILE`.

Not contexts/list, whose type fits Bindu's own answer as little as ours.
"""

import json
import sys
from pathlib import Path

from bindu.common.protocol import types

told = json.loads(Path(sys.argv[1]).read_text())
types.agent_card_ta.validate_python(told["card"], by_alias=True)
readers = {
    "tasks/get": types.GetTaskResponse,
    "tasks/list": types.ListTasksResponse,
    "tasks/cancel": types.CancelTaskResponse,
    "tasks/feedback": types.TaskFeedbackResponse,
    "tasks/pushNotificationConfig/set": types.SetTaskPushNotificationResponse,
    "tasks/pushNotificationConfig/get": types.GetTaskPushNotificationResponse,
}
for request in told["requests"]:
    types.a2a_request_ta.validate_python(request)
for method, answer in told["answers"].items():
    read = types.TypeAdapter(readers[method]).validate_python(answer)
    assert "result" in read, (method, read)
print("read", len(told["answers"]))
