"""The addresses of the pages; names equal views."""

from django.urls import path

from runs.pages import (
    account,
    artifact,
    attempts,
    evaluate,
    feedback,
    run,
    run_list,
    session,
    sign_in,
    submit,
    workers,
)

run_urls = [
    path("runs/<uuid:run_id>", run.run, name="run"),
    path("runs/<uuid:run_id>/status", run.run_status, name="run_status"),
    path("runs/<uuid:run_id>/row", run_list.run_row, name="run_row"),
    path("runs/<uuid:run_id>/events/<int:seq>", run.event, name="event"),
    path("runs/<uuid:run_id>/events/<int:seq>/files/<int:number>", run.event_file, name="event_file"),
    path("runs/<uuid:run_id>/json/<slug:part>", run.run_json, name="run_json"),
    path("runs/<uuid:run_id>/tree/<slug:part>", run.run_tree, name="run_tree"),
    path("runs/<uuid:run_id>/cancel", run.cancel, name="cancel"),
    path("runs/<uuid:run_id>/feedback", feedback.feedback, name="feedback"),
    path("runs/<uuid:run_id>/artifacts/<int:number>", artifact.artifact_file, name="artifact_file"),
    path("runs/<uuid:task_id>/evaluate", evaluate.evaluate_run, name="evaluate_run"),
    path("runs/<uuid:run_id>/try-now", workers.try_now, name="try_now"),
    path(
        "runs/<uuid:run_id>/deliveries/<int:delivery_id>/resend",
        attempts.delivery_resend,
        name="delivery_resend",
    ),
]
worker_urls = [
    path("workers", workers.workers, name="workers"),
    path("workers/pause", workers.queue_pause, name="queue_pause"),
    path("workers/resume", workers.queue_resume, name="queue_resume"),
    path("workers/<path:worker>/drain", workers.worker_drain, name="worker_drain"),
    path("workers/<path:worker>/release", workers.worker_release, name="worker_release"),
]
account_urls = [
    path("account", account.account, name="account"),
    path("account/name", account.account_name, name="account_name"),
    path("account/password", account.account_password, name="account_password"),
    path("account/theme", account.account_theme, name="account_theme"),
    path("account/tokens", account.token_create, name="token_create"),
    path("account/tokens/<int:token_id>/revoke", account.token_revoke, name="token_revoke"),
]
urlpatterns = [
    path("", run_list.run_list, name="run_list"),
    path("first-run", run_list.first_run, name="first_run"),
    *run_urls,
    path("sessions", session.session_list, name="session_list"),
    path("sessions/<uuid:session_id>", session.session, name="session"),
    path("sessions/<uuid:session_id>/evaluate", evaluate.evaluate_session, name="evaluate_session"),
    path("submit", submit.submit, name="submit"),
    *worker_urls,
    path("sign-in", sign_in.sign_in, name="sign_in"),
    path("sign-in/link/<str:secret>", sign_in.sign_in_link, name="sign_in_link"),
    path("sign-out", sign_in.sign_out, name="sign_out"),
    *account_urls,
]
