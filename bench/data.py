"""A million runs of twenty owners of very different size, written by the owner role in bulk."""

from collections.abc import Sequence

from django.db import connections, transaction

from runs.models import Owner

OWNERS = 20
_NO_TRIGGERS = "ALTER TABLE run {0} TRIGGER USER; ALTER TABLE session {0} TRIGGER USER"


def load_runs(total: int, name: str) -> list[Owner]:
    """Gives the owners, the largest first: the second has half as many runs as the first, and so on (1 / rank)."""
    owners = [Owner.objects.create(name=f"{name} {rank}") for rank in range(1, OWNERS + 1)]
    shares = _shares(total)
    # One transaction: now() is the same throughout.
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        cursor.execute(_NO_TRIGGERS.format("DISABLE"))
        for owner, share in zip(owners, shares, strict=True):
            parameters = {"owner": owner.pk, "count": share}
            for statement in (_SESSIONS, _BLOCKS, _RUNS):
                cursor.execute(statement, parameters)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(_NO_TRIGGERS.format("ENABLE"))
    vacuum("run", "session")
    return owners


def vacuum(*tables: str) -> None:
    with connections["owner"].cursor() as cursor:
        for table in tables:
            cursor.execute(f"VACUUM (ANALYZE) {table}")


def _shares(total: int) -> Sequence[int]:
    whole = sum(1 / rank for rank in range(1, OWNERS + 1))
    return [max(1, round(total / rank / whole)) for rank in range(1, OWNERS + 1)]


# A run every so many seconds of the last 90 days, so that all owners reach over the same time.
_AT = "now() - interval '90 days' + (n::float8 / %(count)s) * interval '90 days'"
_UUID7 = """(lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0')
    || '7' || substr(md5(%(owner)s || '{salt}' || n), 1, 3) || '8' || substr(md5('{salt}' || n || %(owner)s), 1, 15))::uuid"""
_SESSIONS = f"""
    INSERT INTO session (id, key, owner_id, agent, source, title, metadata, created_at, last_activity_at,
        run_count, deleted_by)
    SELECT {_UUID7.format(at=_AT, salt="session")}, 'conversation ' || n, %(owner)s, '',
        (ARRAY['a2a', 'otlp', 'openhands', 'api'])[1 + mod(n, 4)], 'Conversation ' || n, '{{}}', {_AT}, now(), 5, ''
    FROM generate_series(1, %(count)s, 5) AS n
"""
_BLOCKS = f"""
    INSERT INTO search_block (owner_id, from_at)
    SELECT %(owner)s, CASE WHEN n = 1 THEN '0001-01-01 00:00:00+00' ELSE {_AT} END
    FROM generate_series(1, %(count)s, 256) AS n ORDER BY n
"""
# Statuses, agents, kinds and ratings by chance of their own: 80 % succeeded, 1 agent of 30 has a fifth.
_RUNS = f"""
    INSERT INTO run (id, owner_id, session_id, kind, status, agent, model, title, raw_status, metadata,
        attempt, cancel_requested_by, cancel_reason, deleted_by, created_at, started_at, finished_at, updated_at,
        size, search_block, event_count, artifact_count, passed_count, failed_count, errored_count,
        skipped_count, score, rating, rating_average, rating_count, input_tokens, output_tokens, cost,
        worker_id, claimed_at, lease_expires_at)
    SELECT {_UUID7.format(at="at", salt="run")}, %(owner)s, {_UUID7.format(at="session_at", salt="session").replace("|| n", "|| first")},
        CASE WHEN kind < 0.3 THEN 'evaluation' ELSE 'task' END, status,
        'agent ' || floor(30 * power(agent, 2))::int, 'model-' || mod(n, 5),
        'Run number ' || n || ' of this owner', '',
        jsonb_build_object('env', CASE WHEN mod(n, 2) = 0 THEN 'prod' ELSE 'test' END, 'build', mod(n, 1000)),
        1, '', '', '', at, at, CASE WHEN status IN ('succeeded', 'failed', 'cancelled') THEN at + interval '9 s' END, at,
        5000, block.id, 5, 0, 2, 1, 0, 0, 0.5,
        rating, rating, CASE WHEN rating IS NULL THEN 0 ELSE 1 END, 1000, 200, 0.01,
        CASE WHEN status = 'running' THEN 'w' END, CASE WHEN status = 'running' THEN at END,
        CASE WHEN status = 'running' THEN at + interval '1 year' END
    FROM (
        SELECT n, {_AT} AS at, n - mod(n - 1, 5) AS first, {_AT.replace("(n::", "((n - mod(n - 1, 5))::")} AS session_at,
            random() AS kind, random() AS agent, 1 + (n - 1) / 256 AS number,
            CASE WHEN random() < 0.05 THEN 1 + floor(random() * 5)::int END AS rating,
            (ARRAY['failed', 'cancelled', 'input_required', 'paused', 'running', 'queued'])[
                CASE WHEN chance < 0.12 THEN 1 WHEN chance < 0.17 THEN 2 WHEN chance < 0.172 THEN 3
                    WHEN chance < 0.173 THEN 4 WHEN chance < 0.174 THEN 5 WHEN chance < 0.175 THEN 6 END] AS drawn
        FROM (SELECT n, random() AS chance FROM generate_series(1, %(count)s) AS n) AS drawn
    ) AS made
    CROSS JOIN LATERAL (SELECT coalesce(drawn, 'succeeded') AS status) AS decided
    JOIN (
        SELECT id, row_number() OVER (ORDER BY id) AS number FROM search_block WHERE owner_id = %(owner)s
    ) AS block USING (number)
    ORDER BY n
"""


EVENTS_PER_RUN = 5
# Words by how often they occur, in four languages: in half of the events, in 1 %, in the oldest 1 % of runs
# alone, of the second owner alone; none has the last.
WORDS = {
    "half": ("half", "一半", "نصف", "половина"),
    "percent": ("percent", "百分", "مئوية", "процент"),
    "ancient": ("ancient", "古代", "قديم", "древний"),
    "foreign": ("foreign", "外国", "أجنبي", "чужой"),
    "absent": ("absent", "缺席", "غائب", "отсутствует"),
}


def load_documents() -> int:
    """What the events of all runs are found by, as appending them would have left it; gives how many."""
    with connections["owner"].cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '512MB'; SET work_mem = '256MB'; DROP INDEX search_words")
        cursor.execute(_DOCUMENTS)
        count = cursor.rowcount
        cursor.execute(_METADATA)
        cursor.execute(_TERMS)
        cursor.execute("CREATE INDEX search_words ON search_doc USING gin (words)")
    vacuum("search_doc", "search_term")
    return count


def _lexemes(name: str) -> str:
    return " || ".join(f"quote_literal(block || ':{word}') || ':1 '" for word in WORDS[name])


_DOCUMENTS = f"""
    INSERT INTO search_doc (run_id, seq, words, whole)
    SELECT id, seq, (
        CASE WHEN mod(chance, 2) = 0 THEN {_lexemes("half")} ELSE '' END
        || CASE WHEN mod(chance, 100) = 7 THEN {_lexemes("percent")} ELSE '' END
        || CASE WHEN rank < 0.01 AND seq = 1 THEN {_lexemes("ancient")} ELSE '' END
        || CASE WHEN owner_rank = 2 AND mod(chance, 3) = 0 THEN {_lexemes("foreign")} ELSE '' END
        || (
            SELECT string_agg(quote_literal(block || ':w' || floor(5000 * power(fraction, 4))::int) || ':' || place, ' ')
            FROM (SELECT place, mod(abs(hashint8(chance::bigint * place)), 100000) / 100000.0 AS fraction
                  FROM generate_series(2, 13) AS place) AS drawn
        )
    )::tsvector, true
    FROM (
        SELECT run.id, seq, search_block AS block, dense AS owner_rank,
            percent_rank() OVER (ORDER BY created_at) AS rank,
            mod(abs(hashtextextended(run.id::text || seq, 0) / 2)::bigint, 1000003) AS chance
        FROM run JOIN (SELECT id, dense_rank() OVER (ORDER BY id) AS dense FROM owner) AS o ON o.id = owner_id,
            generate_series(1, {EVENTS_PER_RUN}) AS seq
    ) AS told ORDER BY block
"""
_METADATA = """
    INSERT INTO search_doc (run_id, seq, words, whole)
    SELECT id, 0, (
        quote_literal(search_block || ':=metadata.env:' || (metadata->>'env')) || ' '
        || quote_literal(search_block || ':=metadata.build:' || (metadata->>'build'))
    )::tsvector, true
    FROM run
"""
_TERMS = """
    INSERT INTO search_term (owner_id, term, block)
    SELECT DISTINCT block.owner_id,
        (crc32(convert_to(substr(lexeme, 1 + position(':' in lexeme)), 'UTF8')) - 2147483648)::int, block.id
    FROM (SELECT DISTINCT unnest(tsvector_to_array(words)) AS lexeme FROM search_doc) AS found
    JOIN search_block AS block ON block.id = split_part(lexeme, ':', 1)::bigint
    ORDER BY 1, 2, 3
"""
