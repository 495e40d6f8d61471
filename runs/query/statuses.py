"""Statuses in every dialect (CONTRACTS.md 4.2): what `status:` takes, and what it means in the database."""

from dataclasses import dataclass

OURS = ("queued", "running", "input_required", "paused", "succeeded", "failed", "cancelled")

# Another word for the same thing.
_SAME = {
    "submitted": "queued",
    "pending": "queued",
    "working": "running",
    "waiting_for_confirmation": "input_required",
    "suspended": "paused",
    "completed": "succeeded",
    "finished": "succeeded",
    "error": "failed",
    "canceled": "cancelled",
}

# A word that says more than our status does: a run has it if it has one of these statuses, and this very
# word as its raw status. No statuses: CONTRACTS.md keeps the word in raw_status only.
_FINER: dict[str, tuple[str, ...]] = {
    "resumed": ("running",),
    "idle": ("queued", "paused"),
    "auth_required": ("input_required",),
    "payment_required": ("input_required",),
    "trust_verification_required": ("input_required",),
    "stuck": ("failed",),
    "rejected": ("failed",),
    "deleting": ("cancelled",),
    "unknown": (),
    "negotiation_bid_submitted": (),
    "negotiation_bid_lost": (),
    "negotiation_bid_won": (),
}

WORDS = (*OURS, *_SAME, *_FINER)


@dataclass(frozen=True, slots=True)
class StatusMeaning:
    """Status in `statuses` and raw status in `raw_statuses`; an empty tuple asks nothing."""

    statuses: tuple[str, ...]
    raw_statuses: tuple[str, ...] = ()


def canonical_status(word: str) -> str | None:
    """One of our statuses or a finer word, in lower case with `_`; None for a word of no dialect."""
    word = word.lower().replace("-", "_")
    word = _SAME.get(word, word)
    return word if word in OURS or word in _FINER else None


def status_meaning(value: str) -> StatusMeaning:
    """What a value of `OneOf("status", ...)` means; its raw statuses come in both spellings, - and _."""
    if value in OURS:
        return StatusMeaning((value,))
    return StatusMeaning(_FINER[value], tuple(dict.fromkeys((value.replace("_", "-"), value))))
