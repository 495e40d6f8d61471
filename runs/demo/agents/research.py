"""research-assistant: reads sources and writes short reports; once it read very many."""

from runs.demo.pictures import bar_chart
from runs.demo.story import (
    A2A,
    Agent,
    Chance,
    Step,
    Told,
    asks,
    binary,
    breaks,
    fails,
    markdown,
    says,
    told,
    uses,
)
from runs.models import Status


def postgres_news(chance: Chance) -> Told:
    reader = chance.choice(("operators", "application developers", "people who run it in containers"))
    report = (
        f"# PostgreSQL 18 for {reader}\n\n## Worth knowing\n\n- **Asynchronous I/O** reads ahead while a "
        f"scan works.\n- **Skip scan** uses an index of several columns without a condition on the "
        f"first.\n- **`uuidv7()`** makes ids that sort by time.\n- An upgrade keeps the planner's "
        f"statistics.\n\n## Before you upgrade\n\n1. Page checksums are on by default in a new cluster; "
        f"`pg_upgrade` wants both the same.\n2. Read the notes on time zones.\n"
    )
    return told(
        f"What does PostgreSQL 18 change for {reader}?",
        asks(f"Summarise what PostgreSQL 18 changes for {reader}. One page, with what to look out for."),
        uses("web_search", {"query": "PostgreSQL 18 release notes"}, {"hits": 24}, 1.9),
        uses("fetch", {"url": "https://www.postgresql.org/docs/18/release-18.html"}, {"words": 14_220}, 2.4),
        says(
            "Four changes matter in daily work, and two things are to be checked before an upgrade. The "
            "report has one page."
        ),
        made=[markdown("postgresql-18.md", report)],
    )


def queues(chance: Chance) -> Told:
    language = chance.choice(("Python", "Go", "Ruby"))
    report = (
        f"# Job queues on PostgreSQL, for {language}\n\n| | Throughput | Retries | Who keeps it |\n| --- "
        f"| --- | --- | --- |\n| A table and `SKIP LOCKED` | 4,000/s | your own | you |\n| A library on "
        f"the same table | 3,500/s | yes | its authors |\n| A broker | 20,000/s | yes | another team |\n\n"
        f"Below a thousand jobs a second, the table is enough, and a backup holds jobs and data at one "
        f"moment.\n"
    )
    return told(
        f"Do we need a broker, or is PostgreSQL queue enough? ({language})",
        asks(
            f"We run about 200 jobs a second in {language}. Do we need a message broker, or does "
            f"PostgreSQL do?"
        ),
        uses(
            "web_search",
            {"query": f"postgresql job queue skip locked {language} benchmark"},
            {"hits": 31},
            1.4,
        ),
        uses("fetch", {"url": "https://example.org/queues-compared"}, {"words": 3_871}, 1.8),
        fails("fetch", {"url": "https://example.com/paywalled-benchmark"}, "402 Payment Required", 0.6),
        uses("fetch", {"url": "https://example.net/skip-locked-in-practice"}, {"words": 2_204}, 1.1),
        says(
            "PostgreSQL does, with room for twenty times as much. One source was behind a paywall and is "
            "not in the report."
        ),
        made=[markdown("queues.md", report)],
    )


def week_of_incidents(chance: Chance) -> Told:
    week, count = chance.randint(40, 46), chance.randint(3, 9)
    return told(
        f"What do the {count} incident reports of week {week} have in common?",
        asks(
            f"Read the {count} incident reports of week {week}. Is there something that they have in common?"
        ),
        uses("list_documents", {"folder": f"incidents/w{week}"}, {"documents": count}),
        uses("read_documents", {"folder": f"incidents/w{week}"}, {"words": count * 840}, 3.0),
        says(
            f"In {count - 1} of {count}, an alert came first from a customer. Each time the metric "
            f"existed, but its alert waited for ten minutes of data. The shortest fix is a second, faster "
            f"rule for the four services that bill."
        ),
    )


def heat_pumps(chance: Chance) -> Told:
    kind = chance.choice(("Altbau", "Mehrfamilienhaus", "Reihenhaus"))
    report = (
        f"# Wärmepumpe im {kind}\n\n**Kurz:** Entscheidend ist die Vorlauftemperatur, nicht das Baujahr.\n"
        f"\n- Unter 55 °C arbeitet eine Wärmepumpe auch mit alten Heizkörpern wirtschaftlich.\n- Größere "
        f"Heizkörper in zwei bis drei Räumen genügen oft.\n- Eine Messung im Winter kostet wenig und "
        f"klärt die Frage.\n"
    )
    return told(
        f"Lohnt sich eine Wärmepumpe im {kind}?",
        asks(f"Lohnt sich eine Wärmepumpe in einem {kind} mit Heizkörpern aus den 70ern? Bitte mit Quellen."),
        uses("web_search", {"query": f"Wärmepumpe {kind} Vorlauftemperatur Messung"}, {"hits": 42}, 1.6),
        uses("fetch", {"url": "https://example.de/feldstudie"}, {"words": 5_120}, 1.9),
        says(
            "Meistens ja, wenn der Vorlauf unter 55 °C bleibt. Das lässt sich im Winter messen, bevor "
            "jemand etwas bestellt."
        ),
        made=[markdown("waermepumpe.md", report)],
        metadata={"language": "de"},
    )


def holidays(chance: Chance) -> Told:
    topic = chance.choice(("férias", "trabalho remoto", "horas extras"))
    return told(
        f"Resumo das regras de {topic} em Portugal e no Brasil",
        asks(
            f"Preciso de um resumo das diferenças nas regras de {topic} entre Portugal e o Brasil, para a "
            f"equipa de RH."
        ),
        uses("web_search", {"query": f"regras {topic} Portugal Brasil comparação"}, {"hits": 18}, 1.5),
        uses("fetch", {"url": "https://example.pt/codigo-do-trabalho"}, {"words": 6_310}, 2.0),
        says(
            "As diferenças principais são três: a duração, quem pode adiar e o que acontece com o que não "
            "foi gozado. O resumo cita o artigo de cada regra; antes de usar num contrato, peça a revisão "
            "de um jurista."
        ),
        metadata={"language": "pt"},
    )


def no_source(chance: Chance) -> Told:
    topic = chance.choice(
        ("battery prices in 2025", "satellite launches by country", "open-source licences in court")
    )
    error = "none of the sources could be opened"
    return told(
        f"Figures on {topic}",
        asks(f"Find reliable figures on {topic}, with a link for each."),
        uses("web_search", {"query": topic}, {"hits": 12}, 1.3),
        fails("fetch", {"url": "https://example.org/statistics"}, "timed out after 20 s", 20.0),
        fails("fetch", {"url": "https://example.com/report.pdf"}, "403 Forbidden", 0.5),
        breaks(error, "no_sources"),
        status=Status.FAILED,
        error=error,
    )


def survey(chance: Chance) -> Told:
    """One question that took a long time: more than 120 events."""
    subjects = ("recall", "memory", "build time", "updates", "filters", "quantisation", "disk layout")
    steps: list[Step] = [
        asks(
            "How do vector indexes behave at 100 million rows? Compare graph, inverted-list and "
            "disk-based ones by recall, memory, build time and updates. Take the time you need, and say "
            "where sources disagree."
        ),
        says(
            "I go through the subjects one by one, read what has numbers in it, and note where they come "
            "from."
        ),
    ]
    for subject in subjects:
        steps += uses(
            "web_search", {"query": f"vector index 100M rows {subject}"}, {"hits": chance.randint(9, 48)}, 1.6
        )
        for number in range(1, 8):
            url = f"https://example.org/{subject.replace(' ', '-')}/{number}"
            steps += _read(chance, url)
            if number % 3 == 0:
                figure = round(chance.uniform(0.86, 0.99), 3)
                steps += uses(
                    "note",
                    {"subject": subject, "claim": f"recall@10 {figure}", "source": url},
                    {"notes": number},
                    0.1,
                )
        steps.append(says(f"**{subject.capitalize()}** is read. {_FINDINGS[subject]}"))
    steps.append(says(_CONCLUSION))
    recall = [0.99, 0.97, 0.95, 0.93, 0.9]
    return Told(
        "How do vector indexes behave at 100 million rows? A survey of recall, memory, build time and "
        "updates",
        steps,
        made=[markdown("vector-indexes.md", _SURVEY), binary("recall.png", bar_chart(recall), "image/png")],
    )


def _read(chance: Chance, url: str) -> list[Step]:
    if chance.random() < 0.12:
        return fails("fetch", {"url": url}, chance.choice(("404 Not Found", "timed out after 20 s")), 4.0)
    return uses(
        "fetch", {"url": url}, {"words": chance.randint(600, 9_000), "numbers": chance.randint(0, 60)}, 1.5
    )


_FINDINGS = {
    "recall": "All reach 0.95; above 0.98 the graph is far ahead, and the others pay with time.",
    "memory": "The graph wants about 1.5 times the vectors; the disk-based one a tenth.",
    "build time": "Hours against a day. Two sources differ by a factor of four, since one counts sorting.",
    "updates": "Deletes are where they differ most: a graph degrades until it is built anew.",
    "filters": "A filter that leaves less than 1 % makes each of them slower than a plain scan.",
    "quantisation": "Half precision costs nothing that can be measured; one bit costs recall.",
    "disk layout": "It decides everything once memory is short, and hardly anybody measures it.",
}
_CONCLUSION = (
    "Up to the memory of one machine, take a graph; beyond it, a disk-based index. Inverted lists win "
    "only where rows change all the time. The report has a table, the numbers with their sources, and a "
    "section on where the sources disagree."
)
_SURVEY = """# Vector indexes at 100 million rows

| | Recall@10 | Memory | Build | Updates |
| --- | ---: | ---: | ---: | --- |
| Graph | 0.99 | 460 GB | 9 h | degrade |
| Inverted lists | 0.95 | 310 GB | 3 h | fine |
| Disk-based | 0.97 | 38 GB | 21 h | in batches |

## Where sources disagree

- **Build time**: some count the sort before it, some do not.
- **Recall**: measured with queries from the data itself, it is flattered by 2 to 3 points.

## What I would do

Measure with your own queries. The code for that is ten lines:

```python
found = index.search(query, 10)
recall = len(set(found) & set(exact(query, 10))) / 10
```
"""

AGENT = Agent(
    name="research-assistant",
    model="gpt-4.1",
    source="a2a",
    instructions="You read sources and report what they say, with a link for each claim.",
    scenarios=(postgres_news, queues, week_of_incidents, heat_pumps, holidays, no_source),
    raw=A2A,
)
