"""JSON of any size as a tree: what PostgreSQL cuts looks as what Python does."""

import json

import pytest

from runs.models import Result, Run
from runs.pages import tree
from tests.pages.helpers import answered, make_task, said
from tests.pages.test_results import judge

HTMX = {"HX-Request": "true"}
ROWS = [{"n": number, "v": "x" * 30} for number in range(300)]
VALUE = {
    "name": "dump",
    "result": {
        "rows": ROWS,
        "a/b~c": {"deep": {"er": list(range(200))}},
        "text": "word " * 400,
        "picture": "data:image/png;base64," + "iVBORw0KGgo" * 100,
        "short": 'say "hi" <b>',
        "none": None,
        "yes": True,
        "number": 1.5,
        "empty": {},
        "words": ["东京", "مرحبا"],
    },
}
PATHS = ["", "/result", "/result/rows", "/result/rows/7", "/result/a~1b~0c", "/result/a~1b~0c/deep/er"]


@pytest.fixture
def run(owner):
    return make_task(owner, answered("dump", VALUE["result"]), metadata={"big": ROWS, "small": 1})


def branch(client, run, path: str, part: str = "event-1", **more: object) -> str:
    answer = client.get(f"/runs/{run.pk}/tree/{part}", {"path": path, **more}, headers=HTMX)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("path", PATHS)
def test_postgresql_cuts_a_branch_as_python_does(signed_in, run, monkeypatch, path):
    small = keys(branch(signed_in, run, path))
    monkeypatch.setattr(tree, "SMALL", 100)
    assert keys(branch(signed_in, run, path)) == small
    assert small


def keys(drawn: str) -> set[str]:
    """The entries with what is shown of each; how large a branch is said to be may differ."""
    return {
        line.split("<details>")[0] + line.partition('class="j-k">')[2].partition("</code>")[0]
        for line in drawn.split("<li>")
    }


def test_a_large_value_is_cut_by_postgresql(signed_in, run, monkeypatch):
    monkeypatch.setattr(tree, "SMALL", 100)
    monkeypatch.setattr("json.loads", forbid_large(json.loads))
    shown = branch(signed_in, run, "/result")
    assert "300 entries" in shown
    assert "base64" in shown
    assert "iVBORw0KGgoiVBORw0KGgo" not in shown
    assert "2,000 characters" in shown
    assert "东京" in shown
    rows = branch(signed_in, run, "/result/rows", **{"from": 200})
    assert "more" not in rows
    assert rows.count("<li>") == 100


def forbid_large(loads):
    def careful(words, *args, **kwargs):
        assert len(words) < 2_000, "a large value was read whole"
        return loads(words, *args, **kwargs)

    return careful


@pytest.mark.parametrize("small", [100, 10**9])
@pytest.mark.parametrize(
    ("path", "kind", "value"),
    [
        ("", "application/json", None),
        ("/result/rows", "application/json", ROWS),
        ("/result/text", "text/plain; charset=utf-8", "word " * 400),
        ("/result/number", "application/json", 1.5),
    ],
)
def test_a_branch_is_a_download(signed_in, run, monkeypatch, small, path, kind, value):
    monkeypatch.setattr(tree, "SMALL", small)
    answer = signed_in.get(f"/runs/{run.pk}/json/event-1", {"path": path})
    assert answer["Content-Type"] == kind
    got = answer.content.decode() if "text" in kind else json.loads(answer.content)
    assert got == (value if value is not None else got)
    assert answer["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("small", [100, 10**9])
@pytest.mark.parametrize(
    "path", ["/nothing", "/result/rows/9999", "/result/rows/x", "/result/text/0", "/result/number"]
)
def test_a_path_that_leads_nowhere_is_missing(signed_in, run, monkeypatch, small, path):
    monkeypatch.setattr(tree, "SMALL", small)
    assert signed_in.get(f"/runs/{run.pk}/tree/event-1", {"path": path}, headers=HTMX).status_code == 404


def test_metadata_has_a_tab_and_is_a_branch_of_the_run(signed_in, run, monkeypatch):
    monkeypatch.setattr(tree, "SMALL", 100)
    assert "300 entries" in signed_in.get(f"/runs/{run.pk}?tab=metadata").content.decode()
    assert "100 more" in branch(signed_in, run, "/metadata/big", "run", **{"from": 100})
    downloaded = json.loads(signed_in.get(f"/runs/{run.pk}/json/run?path=/metadata/small").content)
    assert downloaded == 1


def test_the_exact_text_of_a_large_value_is_what_is_downloaded(signed_in, owner, monkeypatch):
    monkeypatch.setattr(tree, "SMALL", 10)
    run = make_task(owner, said("NUL \x00 and \ud800"))
    exact = json.loads(signed_in.get(f"/runs/{run.pk}/json/event-1").content)
    assert exact["parts"][0]["text"] == "NUL \x00 and \ud800"
    text = signed_in.get(f"/runs/{run.pk}/json/event-1?path=/parts/0/kind")
    assert text.content == b"text"


def test_a_stranger_gets_no_branch(strangers_client, run):
    for part in ("event-1", "metadata", "run", "summary"):
        assert strangers_client.get(f"/runs/{run.pk}/tree/{part}").status_code == 404


def test_details_of_a_result_are_those_of_this_run(signed_in, make_run, owner):
    one, other = make_run(), make_run()
    judge(one, "a", status="failed", details={"reason": "no", "more": {"x": 1}})
    result = Result.objects.get(run=one)
    assert "more" in branch(signed_in, one, "", f"result-{result.pk}")
    assert signed_in.get(f"/runs/{other.pk}/tree/result-{result.pk}").status_code == 404


def test_copies_of_paths_are_pointers(signed_in, run):
    assert 'data-copy="/result/a~1b~0c"' in branch(signed_in, run, "/result")
    assert Run.objects.filter(pk=run.pk).exists()
