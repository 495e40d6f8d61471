"""The addresses of the pages; names equal views."""

from django.urls import path

from runs.pages import account, artifact, feedback, run, run_list, session, sign_in, submit

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
    path("submit", submit.submit, name="submit"),
    path("sign-in", sign_in.sign_in, name="sign_in"),
    path("sign-in/link/<str:secret>", sign_in.sign_in_link, name="sign_in_link"),
    path("sign-out", sign_in.sign_out, name="sign_out"),
    *account_urls,
]
