"""The first page of a search, by how frequent the word is, against raw SQL (issue 3, "Lists")."""

from datetime import UTC, datetime

from bench.data import EVENTS_PER_RUN, WORDS, load_documents, load_runs
from bench.lists import RAW, raw
from bench.measure import interleaved, report
from runs.models import Token
from runs.models.listing import find_runs
from runs.query import parse

PATHS = ("metadata.env:prod", "metadata.build:77", "-metadata.env:prod", "metadata.build:none")


def main(runs: int, rounds: int) -> None:
    """Searches what `runs` runs of five events each are found by; the events themselves are not made."""
    owners = load_runs(runs, "owner")
    print(f"{load_documents():,} events ({EVENTS_PER_RUN} a run) are searchable")
    now = datetime.now(UTC)
    for owner in (owners[0], owners[-1]):
        token, _ = Token.objects.issue(owner, "bench")
        steps = {RAW: lambda owner=owner: raw([owner], None)}
        for text in (*_texts(), *PATHS):
            query = parse(text, now)
            steps[text] = lambda query=query, token=token: find_runs(query, token)
        print(f"-- {owner}, {owner.runs.count():,} runs  limits: 30 x")
        report(interleaved(steps, rounds, calls=1), RAW)


def _texts() -> list[str]:
    """Each word, its negation, and the Russian and English ones in capitals."""
    words = [word for languages in WORDS.values() for word in languages]
    capitals = [word.upper() for languages in WORDS.values() for word in (languages[0], languages[3])]
    return [*words, *capitals, *(f"-{word}" for word in words)]
