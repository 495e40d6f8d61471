"""What the demo's people set up for themselves: criteria, saved views, a review queue that is begun."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from runs.demo.story import Chance
from runs.models import Feedback, Owner, ReviewItem, ReviewQueue, Run, SavedView, Status, User, give_feedback
from runs.models.criterion import add_criterion
from runs.models.review import add_items, open_queue

_CRITERIA = (
    ("Correct", "1: it would do harm. 3: right in the main. 5: every fact and figure holds."),
    ("Helpful", "1: no use to who asked. 5: nothing is left to ask."),
    ("Tone", "1: one would complain. 5: as our best colleague writes."),
)
_VIEWS = (
    ("Nightly evaluations", "kind:evaluation metadata.trigger:nightly"),
    ("Dear ones", "cost:>0.05"),
    ("Helpdesk, low ratings", "agent:helpdesk-triage rating:<=2"),
)
_QUEUE = "Answers to customers"
_INSTRUCTIONS = "Read the question, then the answer. Would you have sent it? Two words on why help the most."
_IN_QUEUE = 24


def settle(owner: Owner, reviewers: Sequence[User], chance: Chance, now: datetime) -> ReviewQueue:
    """Sets it all up; the queue has runs of the last days, the oldest of which are done."""
    criteria = [add_criterion(owner, label, description) for label, description in _CRITERIA]
    for name, query in _VIEWS:
        SavedView.objects.create(author=reviewers[0], owner=owner, name=name, query=query)
    told = Run.objects.filter(owner=owner, kind=Run.Kind.TASK, status=Status.SUCCEEDED, event_count__gt=2)
    runs = list(reversed(told.newest_first()[:_IN_QUEUE]))
    queue = open_queue(
        owner,
        _QUEUE,
        reviewers[0].actor,
        instructions=_INSTRUCTIONS,
        query="kind:task status:succeeded",
        criteria=[one.key for one in criteria[:2]],
    )
    add_items(queue, [run.pk for run in runs])
    for number, run in enumerate(runs[: _IN_QUEUE // 3]):
        _review(queue, run, reviewers[number % len(reviewers)], chance, now - timedelta(hours=9 - number))
    return queue


def _review(queue: ReviewQueue, run: Run, person: User, chance: Chance, at: datetime) -> None:
    for criterion in queue.criteria:
        rating = chance.choices((5, 4, 3, 2), (40, 34, 18, 8))[0]
        if not Feedback.objects.filter(run=run, author=person.actor, criterion=criterion).exists():
            give_feedback(run, person, rating, criterion=criterion, at=max(at, run.finished_at or at))
    ReviewItem.objects.filter(queue=queue, run=run).update(
        state=ReviewItem.State.DONE, ended_by=person.actor, ended_at=at
    )
