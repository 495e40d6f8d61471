"""The domain: a module per word of DESIGN.md 2. Nothing in here knows of pages, API or worker."""

from runs.models.access import Action, Caller, NotAllowed, OwnedQuerySet, may, owner_ids, require, rights_of
from runs.models.artifact import Artifact, put_artifact
from runs.models.attempt import Attempt
from runs.models.bulk import BulkJob
from runs.models.change import Change, correction
from runs.models.choice import Choice
from runs.models.context import Context, ContextMessage
from runs.models.conversation import Conversation
from runs.models.criterion import Criterion
from runs.models.deletion import Extent, delete_runs, delete_session, restore_runs, restore_session
from runs.models.event import Event, NewEvent, Usage, append_events
from runs.models.feedback import OVERALL, Feedback, FeedbackVersion, give_feedback, withdraw_feedback
from runs.models.file import File, FileLock, FileNamespace
from runs.models.idempotency import KeptAnswer
from runs.models.imports import Imported, ImportPosition
from runs.models.owner import Membership, Owner
from runs.models.queue import Claim, claim_next, requeue
from runs.models.result import Result, record_results
from runs.models.retention import Deletion, RetentionPolicy
from runs.models.review import ReviewItem, ReviewQueue
from runs.models.rollup import Rollup, RollupDelta
from runs.models.run import IdTaken, LeaseLost, Run, SpecConflict
from runs.models.saved_view import SavedView
from runs.models.search import SearchBlock, SearchDoc, SearchTerm
from runs.models.session import Session
from runs.models.span import SpanBatch, Trace
from runs.models.status import FINAL, OPEN, Status
from runs.models.task import Task
from runs.models.token import Token
from runs.models.transition import (
    acknowledge_cancel,
    finish,
    force_cancel,
    merge_metadata,
    request_cancel,
    retry,
    retry_once,
    transition,
)
from runs.models.upload import Upload
from runs.models.user import SignInLink, User
from runs.models.webhook import Delivery, Webhook
from runs.models.workers import Queue, Worker

__all__ = [
    "FINAL",
    "OPEN",
    "OVERALL",
    "Action",
    "Artifact",
    "Attempt",
    "BulkJob",
    "Caller",
    "Change",
    "Choice",
    "Claim",
    "Context",
    "ContextMessage",
    "Conversation",
    "Criterion",
    "Deletion",
    "Delivery",
    "Event",
    "Extent",
    "Feedback",
    "FeedbackVersion",
    "File",
    "FileLock",
    "FileNamespace",
    "IdTaken",
    "ImportPosition",
    "Imported",
    "KeptAnswer",
    "LeaseLost",
    "Membership",
    "NewEvent",
    "NotAllowed",
    "OwnedQuerySet",
    "Owner",
    "Queue",
    "Result",
    "RetentionPolicy",
    "ReviewItem",
    "ReviewQueue",
    "Rollup",
    "RollupDelta",
    "Run",
    "SavedView",
    "SearchBlock",
    "SearchDoc",
    "SearchTerm",
    "Session",
    "SignInLink",
    "SpanBatch",
    "SpecConflict",
    "Status",
    "Task",
    "Token",
    "Trace",
    "Upload",
    "Usage",
    "User",
    "Webhook",
    "Worker",
    "acknowledge_cancel",
    "append_events",
    "claim_next",
    "correction",
    "delete_runs",
    "delete_session",
    "finish",
    "force_cancel",
    "give_feedback",
    "may",
    "merge_metadata",
    "owner_ids",
    "put_artifact",
    "record_results",
    "request_cancel",
    "requeue",
    "require",
    "restore_runs",
    "restore_session",
    "retry",
    "retry_once",
    "rights_of",
    "transition",
    "withdraw_feedback",
]
