import base64

from runs.models import put_artifact
from tests.pages.helpers import make_task, png


def test_it_works(signed_in, owner):
    run = make_task(owner)
    put_artifact(
        run,
        "1",
        "report.md",
        parts=[{"kind": "text", "text": "# Head\n\nSome *words*"}],
        media_type="text/markdown",
    )
    put_artifact(run, "2", "values.json", parts=[{"kind": "data", "data": {"replicas": 4}}])
    put_artifact(run, "3", "plot.png", content=png(), media_type="image/png")
    put_artifact(run, "4", "helm.diff", content=b"- a\n+ b", media_type="text/x-diff")
    page = signed_in.get(f"/runs/{run.pk}?tab=artifacts").content.decode()
    for words in ("<em>words</em>", "j-n", "?inline", "+ b"):
        assert words in page


def test_a_download_is_only_a_download(signed_in, owner):
    run = make_task(owner)
    for number, (name, media_type) in enumerate(
        [
            ("a.svg", "image/svg+xml"),
            ("a.html", "text/html"),
            ("a.js", "text/javascript"),
            ("a.png", "image/png"),
        ]
    ):
        artifact = put_artifact(
            run, str(number), name, content=b"<script>alert(1)</script>", media_type=media_type
        )
        answer = signed_in.get(f"/runs/{run.pk}/artifacts/{artifact.pk}?inline")
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["Content-Disposition"] == f'attachment; filename="{name}"'
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Content-Security-Policy"] == "sandbox; default-src 'none'"


def test_names_of_strangers_make_no_header_and_no_path(signed_in, owner):
    run = make_task(owner)
    for number, name in enumerate(["../../etc/passwd", 'a"\r\nX-Evil: 1', "файл.txt", "", "."]):
        artifact = put_artifact(run, f"id{number}", name, content=b"x", media_type="text/plain")
        answer = signed_in.get(f"/runs/{run.pk}/artifacts/{artifact.pk}")
        assert answer.status_code == 200
        assert "X-Evil" not in answer.headers
        assert "/" not in answer["Content-Disposition"]


def test_parts_are_figures_of_their_own(signed_in, owner):
    run = make_task(owner)
    picture = {"name": "shot.png", "mimeType": "image/png", "bytes": base64.b64encode(png()).decode()}
    artifact = put_artifact(run, "1", "both", parts=[{"text": "first"}, {"file": picture}])
    page = signed_in.get(f"/runs/{run.pk}?tab=artifacts").content.decode()
    assert f"/artifacts/{artifact.pk}?inline&amp;part=1" in page
    assert signed_in.get(f"/runs/{run.pk}/artifacts/{artifact.pk}?part=1").content == png()
    assert signed_in.get(f"/runs/{run.pk}/artifacts/{artifact.pk}?part=0").content == b"first"
    assert signed_in.get(f"/runs/{run.pk}/artifacts/{artifact.pk}?part=9").status_code == 404


def test_texts_that_no_response_can_hold(signed_in, owner):
    run = make_task(owner)
    artifact = put_artifact(run, "1", "log\x00", parts=[{"text": "a\x00b\ud800"}])
    assert "a␀b�" in signed_in.get(f"/runs/{run.pk}?tab=artifacts").content.decode()
    assert signed_in.get(f"/runs/{run.pk}/artifacts/{artifact.pk}").content == b"a\x00b?"


def test_large_ones_leave_the_page_small(signed_in, owner):
    run = make_task(owner)
    put_artifact(run, "1", "dump", content=b"x" * 3_000_000, media_type="text/plain")
    put_artifact(run, "2", "rows", parts=[{"data": [{"n": number} for number in range(200_000)]}])
    page = signed_in.get(f"/runs/{run.pk}?tab=artifacts").content
    assert len(page) < 30_000
    assert b"the beginning is shown" in page


def test_a_stranger_gets_nothing(strangers_client, owner):
    run = make_task(owner)
    artifact = put_artifact(run, "1", "a", content=b"x")
    assert strangers_client.get(f"/runs/{run.pk}/artifacts/{artifact.pk}").status_code == 404


def test_another_runs_artifact_is_not_this_ones(signed_in, owner):
    artifact = put_artifact(make_task(owner), "1", "a", content=b"x")
    assert signed_in.get(f"/runs/{make_task(owner).pk}/artifacts/{artifact.pk}").status_code == 404
