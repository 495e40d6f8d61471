"""docs/tasks.md: every example in it works."""

import json
import re
import shlex

from tests.api.rest import Rest
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "tasks.md").read_text()
REQUEST = re.compile(r"(?P<method>[A-Z]+) /api(?P<path>\S+) → (?P<status>\d+)\n(?P<body>.*)", re.DOTALL)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_shortest_thing_works(rest):
    (command,) = blocks("sh")
    words = shlex.split(command.replace("\\\n", " "))
    assert (words[0], words[2]) == ("curl", "-H")

    status, answer = rest.post(words[1].partition("/api")[2], words[words.index("-d") + 1].encode())

    assert (status, answer["data"]["status"]["state"]) == (201, "submitted")


def test_every_request_is_answered_as_the_page_says(rest):
    for text in blocks("http"):
        asked = REQUEST.match(text)
        assert asked, text
        assert (text, send(rest, asked)) == (text, int(asked["status"]))


def test_every_line_of_the_bulk_is_done(rest):
    (lines,) = blocks("ndjson")

    assert [one["status"] for one in rest.bulk(lines.encode())] == [201, 200, 200, 201]


def test_every_code_and_address_is_there():
    sources = "".join((ROOT / "runs" / "api" / f"{name}.py").read_text() for name in ("tasks", "once"))
    for code in ("task_final", "owned_by_another", "idempotency_key_reused"):
        assert f"`{code}`" in PAGE
        assert f'"{code}"' in sources


def send(rest: Rest, asked: re.Match[str]) -> int:
    body = asked["body"].strip()
    path, _, query = asked["path"].partition("?")
    fields = dict(one.split("=") for one in query.split("&") if one)
    if asked["method"] == "GET":
        return rest.get(path, **fields)[0]
    if asked["method"] == "DELETE":
        return rest.delete(path, **fields)[0]
    return rest.send(asked["method"], path, json.loads(body), None, **fields)[0]
