"""helm-agent: looks after the Helm releases of a small platform team."""

from runs.demo.story import Agent, Chance, Told, asks, fails, markdown, says, text_file, told, uses
from runs.models import Status

NAMESPACES = ("payments", "checkout", "search", "identity", "ingest", "staging-eu")
CHARTS = {
    "redis": ("20.6.1", "20.11.3"),
    "rabbitmq": ("15.3.0", "15.5.3"),
    "ingress-nginx": ("4.11.2", "4.12.1"),
    "cert-manager": ("1.16.2", "1.17.1"),
    "grafana": ("8.8.2", "8.10.4"),
    "opensearch": ("2.27.1", "2.31.0"),
}


def list_releases(chance: Chance) -> Told:
    namespace = chance.choice(NAMESPACES)
    releases = [
        {
            "name": name,
            "chart": f"{name}-{versions[0]}",
            "revision": chance.randint(2, 19),
            "status": "deployed",
        }
        for name, versions in chance.sample(sorted(CHARTS.items()), 3)
    ]
    lines = "\n".join(f"- **{r['name']}**, chart `{r['chart']}`, revision {r['revision']}" for r in releases)
    question = f"Which Helm releases run in {namespace}?"
    return told(
        question,
        asks(question),
        uses("helm_list_releases", {"namespace": namespace}, {"releases": releases}),
        says(f"Three releases are deployed in `{namespace}`:\n\n{lines}\n\nAll three are healthy."),
    )


def upgrade(chance: Chance) -> Told:
    chart, (old, new) = chance.choice(sorted(CHARTS.items()))
    namespace = chance.choice(NAMESPACES)
    replicas = chance.choice((2, 3, 4))
    diff = (
        f"--- {chart}/values ({old})\n+++ {chart}/values ({new})\n@@ -4,7 +4,8 @@\n image:\n   registry: "
        f"docker.io\n-  tag: {old}\n+  tag: {new}\n replica:\n-  replicaCount: {replicas}\n+  "
        f"replicaCount: {replicas}\n+  pdb:\n+    create: true\n"
    )
    release = {"name": chart, "namespace": namespace}
    question = f"Upgrade {chart} in {namespace} to {new}"
    return told(
        question,
        asks(f"{question}, but show me the difference first."),
        uses("helm_diff_upgrade", {**release, "version": new}, diff, 2.6),
        says(
            "The upgrade changes the image tag and adds a pod disruption budget; no volume is touched. I "
            "start it with `--atomic`, so that it rolls back by itself if a pod does not become ready."
        ),
        uses(
            "helm_upgrade",
            {**release, "version": new, "atomic": True, "timeout": "5m"},
            {"revision": chance.randint(7, 24), "status": "deployed"},
            chance.uniform(25, 70),
        ),
        uses(
            "kubectl_rollout_status",
            release,
            f"\x1b[32mstatefulset rolling update complete\x1b[0m {replicas} pods at revision {chart}-7d9c",
            6.0,
        ),
        says(
            f"{chart} in `{namespace}` now runs {new}. All {replicas} pods are ready; no connection was "
            f"refused."
        ),
        made=[text_file(f"{chart}-{new}.diff", diff, "text/x-diff")],
    )


def roll_back(chance: Chance) -> Told:
    chart = chance.choice(sorted(CHARTS))
    namespace, revision = chance.choice(NAMESPACES), chance.randint(8, 21)
    release = {"name": chart, "namespace": namespace}
    history = [
        {"revision": revision, "status": "failed", "description": "Upgrade failed: readiness probe"},
        {"revision": revision - 1, "status": "superseded", "description": "Upgrade complete"},
    ]
    question = f"Roll back {chart} in {namespace} to the last revision that worked"
    return told(
        question,
        asks(question),
        uses("helm_history", release, {"history": history}),
        uses("helm_rollback", {**release, "revision": revision - 1}, {"status": "deployed"}, 18.0),
        says(
            f"Rolled back `{chart}` in `{namespace}` from revision {revision} to {revision - 1}. Revision "
            f"{revision} failed because the readiness probe asked for `/ready`, which that image calls "
            f"`/readyz`."
        ),
    )


def upgrade_times_out(chance: Chance) -> Told:
    chart, (_, new) = chance.choice(sorted(CHARTS.items()))
    namespace = chance.choice(NAMESPACES)
    message = "UPGRADE FAILED: context deadline exceeded: 1 of 3 pods not ready after 5m0s"
    events = (
        "\x1b[33mWARN\x1b[0m  FailedScheduling   0/9 nodes are available: 9 Insufficient memory.\n"
        "\x1b[33mWARN\x1b[0m  FailedScheduling   preemption: 0/9 nodes are available: 9 No preemption "
        "victims found.\n\x1b[36mINFO\x1b[0m  RolledBack         release rolled back to the previous "
        "revision\n"
    )
    return told(
        f"Upgrade {chart} in {namespace} to {new} tonight",
        asks(f"Please upgrade {chart} in {namespace} to {new}. Nobody uses it now."),
        fails("helm_upgrade", {"name": chart, "namespace": namespace, "version": new}, message, 301.0),
        uses("kubectl_events", {"namespace": namespace, "last": "10m"}, events),
        says(
            f"The upgrade did not go through: the new pod asks for 8 GiB and no node has that much left. "
            f"Helm rolled back, so {chart} still runs as before. Either add a node to the pool or lower "
            f"`resources.requests.memory`."
        ),
        status=Status.FAILED,
        error=message,
    )


def outdated(chance: Chance) -> Told:
    rows = [
        {"release": name, "namespace": chance.choice(NAMESPACES), "installed": old, "latest": new}
        for name, (old, new) in chance.sample(sorted(CHARTS.items()), 4)
    ]
    table = "\n".join(
        f"| {r['release']} | {r['namespace']} | {r['installed']} | {r['latest']} |" for r in rows
    )
    report = (
        f"# Charts with a newer version\n\n| Release | Namespace | Installed | Latest |\n| --- | --- | "
        f"--- | --- |\n{table}\n\n## What to do first\n\n1. **{rows[0]['release']}**: the newer one "
        f"closes a known hole.\n2. **{rows[1]['release']}**: small, no change of values.\n3. The others "
        f"can wait for the monthly window.\n"
    )
    return told(
        f"Which charts are behind, and which matter? ({rows[0]['release']}, {rows[1]['release']}, …)",
        asks("Which of our charts have a newer version, and which upgrade should come first?"),
        uses("helm_list_releases", {"all_namespaces": True}, {"count": 17}),
        uses("helm_search_repo", {"charts": [r["release"] for r in rows]}, {"outdated": rows}, 3.4),
        says(f"Four charts are behind. I would begin with **{rows[0]['release']}**; the report says why."),
        made=[markdown("outdated-charts.md", report)],
    )


def stuck_release(chance: Chance) -> Told:
    chart, namespace = chance.choice(sorted(CHARTS)), chance.choice(NAMESPACES)
    release = {"name": chart, "namespace": namespace}
    locked = "another operation (install/upgrade/rollback) is in progress"
    return told(
        f"{chart} in {namespace} says another operation is in progress",
        asks(
            f'My upgrade of {chart} in {namespace} fails with "{locked}", but nothing is running. Can you '
            f"free it?"
        ),
        uses("helm_status", release, {"status": "pending-upgrade", "last_deployed": "3 h ago"}),
        uses(
            "ci_jobs",
            {"label": f"deploy-{chart}"},
            {"running": [], "last": {"id": 48213, "status": "cancelled"}},
        ),
        says(
            "CI job 48213 was cancelled in the middle of the upgrade and left the lock. No other job is "
            "at it."
        ),
        uses("helm_rollback", {**release, "revision": "previous"}, {"status": "deployed"}, 12.0),
        says(
            f"The lock is gone: `{chart}` is back at its last deployed revision, and your upgrade can run "
            f"again."
        ),
    )


def render_values(chance: Chance) -> Told:
    chart, replicas = chance.choice(sorted(CHARTS)), chance.choice((4, 6, 8))
    values = (
        f"# {chart}, for the load test\nreplicaCount: {replicas}\nresources:\n  requests:\n    cpu: 500m\n"
        f"    memory: 1Gi\n  limits:\n    memory: 2Gi\nautoscaling:\n  enabled: false\nmetrics:\n  "
        f"enabled: true\n"
    )
    return told(
        f"Write values for {chart} with {replicas} replicas for the load test",
        asks(
            f"I need values for {chart} with {replicas} replicas, metrics on and no autoscaling, for a "
            f"load test."
        ),
        uses("helm_show_values", {"chart": chart}, {"keys": 214, "bytes": 18_344}),
        uses(
            "helm_template",
            {"chart": chart, "values": "load-test.yaml"},
            {"objects": 11, "warnings": []},
            1.9,
        ),
        says(f"The values render without a warning: 11 objects, {replicas} replicas, metrics on."),
        made=[text_file("load-test.yaml", values, "application/yaml")],
    )


AGENT = Agent(
    name="helm-agent",
    model="gpt-4.1-mini",
    source="otlp",
    instructions="You look after Helm releases. Show what would change before you change it.",
    scenarios=(list_releases, upgrade, roll_back, upgrade_times_out, outdated, stuck_release, render_values),
)
