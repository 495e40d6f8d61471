"""The domain: a module per word of DESIGN.md 2. Nothing in here knows of pages, API or worker."""

from runs.models.access import Caller, OwnedQuerySet, owner_ids
from runs.models.artifact import Artifact, put_artifact
from runs.models.change import Change, correction
from runs.models.event import Event, NewEvent, append_events
from runs.models.feedback import OVERALL, Feedback, FeedbackVersion, give_feedback
from runs.models.owner import Membership, Owner
from runs.models.queue import Claim, LeaseLost, claim_next
from runs.models.result import Result
from runs.models.run import FINAL, OPEN, Run, SpecConflict, Status
from runs.models.session import Session
from runs.models.token import Token
from runs.models.user import SignInLink, User

__all__ = [
    "FINAL",
    "OPEN",
    "OVERALL",
    "Artifact",
    "Caller",
    "Change",
    "Claim",
    "Event",
    "Feedback",
    "FeedbackVersion",
    "LeaseLost",
    "Membership",
    "NewEvent",
    "OwnedQuerySet",
    "Owner",
    "Result",
    "Run",
    "Session",
    "SignInLink",
    "SpecConflict",
    "Status",
    "Token",
    "User",
    "append_events",
    "claim_next",
    "correction",
    "give_feedback",
    "owner_ids",
    "put_artifact",
]
