"""Finding runs by what was said in them and by what their JSON holds (issue 3, point 4)."""

from datetime import UTC, datetime, timedelta

import pytest

from runs.models import NewEvent, Run, Session, Status, append_events, finish, merge_metadata
from runs.models.listing import find_runs
from runs.query import QueryError, parse

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def said(owner):
    """Makes a task in which these texts were said, each in a message of its own."""

    def say(*texts, **fields):
        session = fields.pop("session", None) or Session.objects.open(owner, "api", "desk")
        run = Run.objects.open_task(owner, session, **fields)
        for text in texts:
            append_events(run, [NewEvent("message", {"parts": [{"kind": "text", "text": text}]}, "agent")])
        return run

    return say


@pytest.fixture
def found(alice):
    """The ids of what a query finds for alice, newest first."""

    def find(text, caller=None, **options):
        return [run.pk for run in find_runs(parse(text, NOW), caller or alice, **options).runs]

    return find


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The Upgrade of Prometheus failed", "prometheus"),
        ("The Upgrade of Prometheus failed", "PROMETHEUS failed"),
        ("数据库连接失败，请重试", "连接"),
        ("数据库连接失败，请重试", "数据库连接"),
        ("数据库连接失败，请重试", "库"),
        ("データベースに接続できません", "接続"),
        ("ｶﾅ", "カナ"),
        ("배포가 실패했습니다", "실패"),
        ("ฐานข้อมูลล้มเหลว", "ข้อมูล"),
        ("فشل الاتصال بقاعدة البيانات", "الاتصال"),
        ("Обновление НЕ УДАЛОСЬ", "не удалось"),
        ("Обновление не удалось", "ОБНОВЛЕНИЕ"),
        ("Straße gesperrt", "STRASSE"),
        ("error in runs/models/event.py:48", "event.py"),
        ("call helm_diff_upgrade", "helm_diff_upgrade"),
        ("call helm_diff_upgrade", "diff"),
        ("order 48211 shipped", "48211"),
    ],
)
def test_words_are_found_in_any_language(said, found, text, query):
    run = said(text)
    said("something else")

    assert found(query) == [run.pk]


def test_all_words_must_occur_each_in_any_message(said, found):
    both = said("the disk is full", "and the network is down")
    said("the disk is full")

    assert found("disk network") == [both.pk]


def test_exact_words_follow_each_other_in_one_message(said, found):
    together = said("the disk is full today")
    said("full of joy", "the disk is here")
    said("the disk is almost full")

    assert found('"disk is full"') == [together.pk]


def test_a_phrase_reaches_over_scripts(said, found):
    run = said("请检查 disk 空间")

    assert found('"检查 disk 空间"') == [run.pk]
    assert found('"空间 disk"') == []


def test_a_negated_word_leaves_out_the_runs_that_have_it(said, found):
    plain, loud = said("all is well"), said("all is lost")

    assert found("-lost") == [plain.pk]
    assert found("all -lost") == [plain.pk]
    assert found("all -nothing") == [loud.pk, plain.pk]


def test_title_error_and_metadata_are_searched(said, found, make_run):
    titled = make_run(title="Nightly regression")
    failed = said("hello")
    finish(failed, Status.FAILED, error="connection refused by gateway")
    labelled = said("hello", metadata={"customer": "Contoso"})

    assert found("regression") == [titled.pk]
    assert found("refused") == [failed.pk]
    assert found("contoso") == [labelled.pk]


def test_a_query_without_a_word_to_look_for_is_an_error(found):
    with pytest.raises(QueryError, match="no letter or digit"):
        found('"!!!"')


@pytest.mark.parametrize(
    ("metadata", "query"),
    [
        ({"env": "prod"}, "metadata.env:prod"),
        ({"a": {"b": {"c": 5}}}, "metadata.a.b.c:5"),
        ({"dry": True}, "metadata.dry:true"),
        ({"owner": None}, "metadata.owner:null"),
        ({"tags": ["red", "blue"]}, "metadata.tags:blue"),
        ({"a.b": "x"}, 'metadata."a.b":x'),
        ({"it's": "o'clock\\"}, "metadata.it's:o'clock\\"),
    ],
)
def test_metadata_is_found_by_path(said, found, metadata, query):
    run = said("hello", metadata=metadata)
    said("hello", metadata={"env": "test", "a": {"b": {"c": 6}}, "tags": ["green"]})

    assert found(query) == [run.pk]


def test_a_colon_in_a_key_is_not_taken_for_the_value(said, found):
    said("hello", metadata={"a:b": "c"})

    assert found('metadata.a:"b:c"') == []
    assert len(found('metadata."a:b":c')) == 1


def test_metadata_that_changes_is_found_as_it_is(said, found):
    run = said("hello", metadata={"env": "test"})
    merge_metadata(run, {"env": "prod"})

    assert found("metadata.env:prod") == [run.pk]
    assert found("metadata.env:test") == []


def test_metadata_beyond_what_is_indexed_is_found_all_the_same(said, found):
    run = said("hello", metadata={**{f"key{n}": n for n in range(900)}, "last": "one", "long": "x" * 500})
    said("hello", metadata={f"key{n}": n for n in range(900)})

    assert found("metadata.last:one") == [run.pk]
    assert found(f"metadata.long:{'x' * 500}") == [run.pk]


def test_a_spec_is_found_by_path_but_not_by_its_secrets(make_run, found):
    spec = {**make_run().full_spec, "sinks": [{"password": "hunter2"}]}
    run = make_run(spec={**spec, "approach": "trace_replay_2"})

    assert found("spec.approach:trace_replay_2") == [run.pk]
    assert found("spec.sinks.password:hunter2") == []


def test_another_owners_words_are_not_found(said, found, stranger):
    said("our secret")

    assert found("secret", caller=stranger) == []


def test_pages_follow_each_other_without_a_gap(said, found, alice, monkeypatch):
    monkeypatch.setattr("runs.models.listing.STEPS", (2, 3))
    runs = [said("needle" if n % 3 else "hay", "needle").pk for n in range(12)][::-1]
    seen, after = [], None
    while True:
        page = find_runs(parse("needle -nothing", NOW), alice, after=after, size=5)
        seen += [run.pk for run in page.runs]
        after = page.older
        if after is None:
            break

    assert seen == runs


def test_a_search_that_runs_out_of_time_goes_on_where_it_stopped(said, alice, monkeypatch):
    monkeypatch.setattr("runs.models.listing.STEPS", (3,))
    runs = [said("hay", "needle" if n == 0 else "pin") for n in range(10)]
    seen, after, cuts = [], None, 0
    while True:
        page = find_runs(parse("-pin", NOW), alice, after=after, patience=0)
        seen, cuts, after = seen + [run.pk for run in page.runs], cuts + page.is_cut, page.older
        if after is None:
            break

    assert seen == [runs[0].pk]
    assert cuts == 3


def test_text_beyond_the_bound_is_marked_and_not_searched(said, found):
    from runs.models import SearchDoc

    run = said("needle " + "hay " * 20_000 + "pin")

    assert found("needle") == [run.pk]
    assert found("pin") == []
    assert not SearchDoc.objects.get(run_id=run.pk, seq=1).whole


def test_a_run_of_long_ago_is_found_in_its_own_time(owner, found):
    old = Run.objects.record_past(
        owner,
        Status.SUCCEEDED,
        NOW - timedelta(days=900),
        kind=Run.Kind.TASK,
        finished_at=NOW - timedelta(days=899),
    )
    append_events(old, [NewEvent("message", {"parts": [{"text": "ancient"}]}, "user")], past=True)

    assert found("ancient") == [old.pk]
    assert found("ancient after:2026-01-01") == []
