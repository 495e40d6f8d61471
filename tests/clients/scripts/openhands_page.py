"""The examples of docs/openhands.md, one after the other, with a model that follows a script.

`openhands_page.py PAGE`; prints how many events each of the two conversations has in the end.
"""

import json
import os
import re
import sys
from pathlib import Path

os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", OPENHANDS_SUPPRESS_BANNER="1", LOG_LEVEL="ERROR")

import openhands.sdk.llm.llm as model
from litellm.types.utils import ModelResponse


def complete(**asked):
    call = {"name": "finish", "arguments": json.dumps({"message": "Done."})}
    message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "1", "type": "function", "function": call}],
    }
    return ModelResponse(choices=[{"index": 0, "finish_reason": "tool_calls", "message": message}])


if __name__ == "__main__":
    model.litellm_completion = complete
    names = {}
    for example in re.findall(r"^```python\n(.*?)^```", Path(sys.argv[1]).read_text(), re.M | re.S):
        exec(example, names)
    print(json.dumps([len(names[name].state.events) for name in ("again", "copy")]))
