"""A run in one sentence, which the run's page and the peek say alike (issue 5, point 3)."""

from runs.models import Run, Status
from runs.pages import text
from runs.pages.waiting import fell_silent, whereabouts, why_not_running

_LONGEST_VERDICT = 500  # characters of what went wrong, at the top of the page


def verdict_of(run: Run, stale: bool) -> str:
    """Why it failed, why it is not running, or how it went; `stale` is whether its worker fell silent."""
    if run.status == Status.FAILED:
        error = run.error or "It failed without saying why."
        short = text.shortened(error, _LONGEST_VERDICT)
        return text.visible(short if short == error else f"{short}… All of it is under Raw JSON.")
    if run.status == Status.CANCELLED:
        return "It was stopped; what it had done until then is kept."
    if run.status == Status.QUEUED:
        return why_not_running(run) if run.is_evaluation else "Its agent has not begun yet."
    if run.cancel_requested_at:
        return "It was asked to stop, and has not answered yet."
    if stale and run.is_evaluation:
        return fell_silent(run)
    if run.status == Status.RUNNING:
        return _progress(run)
    if run.status == Status.INPUT_REQUIRED:
        return "Its agent waits for a person's answer."
    if run.status == Status.PAUSED:
        return "A person or a limit holds it."
    return _outcome(run)


def _progress(run: Run) -> str:
    count = result_count(run)
    if not run.is_evaluation:
        return f"{run.agent or 'Its agent'} is at it."
    so_far = f" {count} result{'s' if count != 1 else ''} so far." if count else ""
    return f"{whereabouts(run)}{so_far}"


def _outcome(run: Run) -> str:
    count = result_count(run)
    if not run.is_evaluation:
        return "Its agent finished."
    if not count:
        return ""
    wrong = [
        f"{number} {words}"
        for number, words in (
            (run.failed_count, f"{'is' if run.failed_count == 1 else 'are'} below the threshold"),
            (run.errored_count, "could not be judged"),
            (run.skipped_count, f"{'was' if run.skipped_count == 1 else 'were'} skipped"),
        )
        if number
    ]
    if wrong:
        listed = " and ".join(filter(None, [", ".join(wrong[:-1]), wrong[-1]]))
        return f"Of {count} result{'' if count == 1 else 's'}, {listed}."
    return "The result passed." if count == 1 else f"All {count} results passed."


def result_count(run: Run) -> int:
    return run.passed_count + run.failed_count + run.errored_count + run.skipped_count
