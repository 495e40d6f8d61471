"""What people say of the demo's runs."""

from datetime import timedelta

from runs.demo.story import Chance
from runs.models import Membership, Owner, Run, Status, User, give_feedback

_PEOPLE = (
    ("demo-mira", "Mira", "Hoffmann"),
    ("demo-tomas", "Tomás", "Almeida"),
    ("demo-yuki", "Yuki", "Tanaka"),
    ("demo-olena", "Olena", "Kovalenko"),
    ("demo-omar", "Omar", "Haddad"),
)
_COMMENTS = {
    5: ("Exactly what I needed.", "Clear, short and right.", "I checked every number: all correct.", "", ""),
    4: ("Right, but it could say sooner what to do.", "Good. Half as long would have been enough.", "", ""),
    3: (
        "The first half is good. The second repeats it.",
        "It asked for something that was written already.",
        "Half of it I knew; the part about the cause helped.",
        "",
    ),
    2: (
        "It answered another question than the one that was asked.",
        "Too slow for what it found.",
        "It should have stopped and asked first.",
    ),
    1: (
        "It gave up where it was needed most.",
        "No answer at all, and no word on what to try next.",
        "Third time this week that it ends like this.",
    ),
}
_OF_EVALUATIONS = {
    5: ("Better than last week.", ""),
    4: ("The two misses are the same as yesterday.", "Fine for a release.", ""),
    3: ("One expected answer is out of date, not the agent.", "Check case 3: both answers are right.", ""),
    2: ("It calls a tool that nobody wants here.", "Worse since the new prompt."),
    1: ("Something is wrong with the traces, not with the agent.", "Please look at this before the release."),
}
_OWN_WORDS = {
    "demo-mira": {5: "Genau so. Danke!", 4: "Inhaltlich richtig, etwas lang.", 2: "Am Thema vorbei."},
    "demo-tomas": {5: "Muito claro, obrigado.", 4: "Certo, mas demorou.", 1: "Parou a meio."},
    "demo-yuki": {5: "助かりました。手順も分かりやすいです。", 3: "もう少し短いと助かります。"},
    "demo-olena": {5: "Дякую, спрацювало з першого разу.", 2: "Відповідь не на те питання."},
    "demo-omar": {5: "إجابة واضحة ومفيدة، شكرًا.", 3: "الجواب صحيح لكنه طويل."},
}
_GOOD, _BAD = ((5, 4, 3, 2), (46, 34, 14, 6)), ((1, 2, 3), (50, 38, 12))


def people(owner: Owner) -> list[User]:
    """The reviewers: people who cannot sign in, since they have no password."""
    found = []
    for username, first, last in _PEOPLE:
        names = {"first_name": first, "last_name": last, "password": "!"}
        person, _ = User.objects.get_or_create(username=username, defaults=names)
        Membership.objects.get_or_create(
            user=person, owner=owner, defaults={"role": Membership.Role.REVIEWER}
        )
        found.append(person)
    return found


def rate(run: Run, reviewers: list[User], chance: Chance) -> None:
    """Some runs are rated, those that went well more often, some of them by two people."""
    failed = run.status != Status.SUCCEEDED
    if run.finished_at is None or chance.random() > (0.22 if failed else 0.42):
        return
    ratings, weights = _BAD if failed else _GOOD
    for person in chance.sample(reviewers, 2 if chance.random() < 0.2 else 1):
        rating = chance.choices(ratings, weights)[0]
        at = run.finished_at + timedelta(minutes=chance.uniform(2, 90))
        give_feedback(run, person, rating, _comment(run, person, rating, chance), at=at)


def rate_as(person: User, run: Run, chance: Chance) -> None:
    """Ratings without a word, of somebody who wants to see some of their own."""
    if run.finished_at is not None and chance.random() < 0.35:
        ratings, weights = _GOOD if run.status == Status.SUCCEEDED else _BAD
        at = run.finished_at + timedelta(minutes=chance.uniform(2, 90))
        give_feedback(run, person, chance.choices(ratings, weights)[0], at=at)


def _comment(run: Run, person: User, rating: int, chance: Chance) -> str:
    if run.is_evaluation:
        return chance.choice(_OF_EVALUATIONS[rating])
    own = _OWN_WORDS[person.username].get(rating)
    return own if own and chance.random() < 0.5 else chance.choice(_COMMENTS[rating])
