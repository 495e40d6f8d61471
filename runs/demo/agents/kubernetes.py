"""k8s-agent: answers the platform team's questions about its clusters."""

from runs.demo.pictures import bar_chart
from runs.demo.story import Agent, Chance, Told, asks, binary, fails, json_data, says, told, uses
from runs.models import Status

DEPLOYMENTS = (
    "cart-api",
    "ledger",
    "image-resizer",
    "search-indexer",
    "session-gateway",
    "mail-sender",
    "pricing",
)
NAMESPACES = ("shop", "finance", "media", "edge", "batch")
CLUSTERS = ("eu-central-1", "us-east-2", "ap-northeast-1")


def restarting(chance: Chance) -> Told:
    deployment, namespace = chance.choice(DEPLOYMENTS), chance.choice(NAMESPACES)
    restarts, limit = chance.randint(4, 31), chance.choice((256, 512, 768))
    described = (
        f"Name:         {deployment}-6c8d5f7b9-x2lqv\nNamespace:    {namespace}\nStatus:       "
        f"\x1b[32mRunning\x1b[0m\nRestart Count: \x1b[1;33m{restarts}\x1b[0m\nLast State:   "
        f"\x1b[31mTerminated\x1b[0m\n  Reason:     \x1b[1;31mOOMKilled\x1b[0m\n  Exit Code:  137\n"
        f"Limits:\n  memory:     {limit}Mi\n"
    )
    question = f"Why does {deployment} in {namespace} keep restarting?"
    return told(
        question,
        asks(question),
        uses(
            "kubectl_describe",
            {"kind": "pod", "selector": f"app={deployment}", "namespace": namespace},
            described,
        ),
        uses(
            "prometheus_query",
            {"query": f'container_memory_working_set_bytes{{pod=~"{deployment}.*"}}', "range": "6h"},
            {"series": 1, "max_mib": limit - 3, "trend": "rises by 9 MiB an hour, never falls"},
            1.4,
        ),
        says(
            f"`{deployment}` is killed for memory: {restarts} restarts, each when it reaches its limit of "
            f"{limit} MiB. It grows steadily and never shrinks, which looks like a leak rather than a "
            f"burst. Raising the limit only buys time; the growth began with the deployment of last Thursday."
        ),
        metadata={"cluster": chance.choice(CLUSTERS)},
    )


def memory_by_pod(chance: Chance) -> Told:
    namespace, cluster = chance.choice(NAMESPACES), chance.choice(CLUSTERS)
    used = sorted((chance.randint(180, 2400) for _ in range(8)), reverse=True)
    rows = [{"pod": f"{name}-0", "mib": mib} for name, mib in zip((*DEPLOYMENTS, "redis"), used, strict=True)]
    listed = "\n".join(
        f"{number}. `{row['pod']}` {row['mib']:,} MiB" for number, row in enumerate(rows[:3], 1)
    )
    question = f"Which pods use most memory in {namespace} ({cluster})?"
    return told(
        question,
        asks(question),
        uses("kubectl_top", {"kind": "pods", "namespace": namespace, "sort": "memory"}, {"pods": rows}),
        says(
            f"The three largest use {sum(used[:3]) * 100 // sum(used)} % of the namespace's memory:\n\n"
            f"{listed}"
        ),
        made=[
            binary("memory-by-pod.png", bar_chart(used), "image/png"),
            json_data("memory-by-pod.json", rows),
        ],
        metadata={"cluster": cluster},
    )


def certificates(chance: Chance) -> Told:
    cluster, days = chance.choice(CLUSTERS), chance.randint(2, 13)
    found = [
        {"host": "pay.example.net", "expires_in_days": days, "renewal": "failed: DNS challenge not found"},
        {"host": "static.example.net", "expires_in_days": days + 17, "renewal": "due"},
    ]
    question = f"Do any certificates in {cluster} expire this month?"
    return told(
        question,
        asks(question),
        uses(
            "list_certificates", {"cluster": cluster, "expires_within_days": 30}, {"certificates": found}, 2.2
        ),
        says(
            f"Two do. `pay.example.net` expires in {days} days and its renewal **fails**: the DNS "
            f"challenge finds no record, because the zone moved to another account. `static.example.net` "
            f"renews by itself."
        ),
        metadata={"cluster": cluster},
    )


def drain(chance: Chance) -> Told:
    node, deployment = f"node-{chance.randint(3, 28):02}", chance.choice(DEPLOYMENTS)
    blocked = (
        f"Cannot evict pod {deployment}-0: it would violate the pod's disruption budget (1 of 1 needed)."
    )
    return told(
        f"Drain {node} for its kernel update",
        asks(f"Please drain {node}; it gets a new kernel at six."),
        uses("kubectl_cordon", {"node": node}, f"\x1b[32mnode/{node} cordoned\x1b[0m"),
        fails("kubectl_drain", {"node": node, "ignore_daemonsets": True}, blocked, 31.0),
        uses("kubectl_scale", {"deployment": deployment, "replicas": 2}, {"ready": 2}, 14.0),
        uses(
            "kubectl_drain",
            {"node": node, "ignore_daemonsets": True},
            f"node/{node} drained, 23 pods moved",
            48.0,
        ),
        says(
            f"{node} is empty. `{deployment}` had a single pod that its budget protects, so I gave it a "
            f"second one first. Scale it back to 1 after the update if you want it as it was."
        ),
    )


def volume_full(chance: Chance) -> Told:
    namespace, used = chance.choice(NAMESPACES), chance.randint(91, 99)
    listing = (
        f"Filesystem      Size  Used Avail Use% Mounted on\n/dev/nvme1n1     98G   {used - 2}G  "
        f"{100 - used}G  \x1b[31m{used}%\x1b[0m /var/lib/data\n\n41G  /var/lib/data/wal-archive\n28G  "
        f"/var/lib/data/base\n12G  /var/lib/data/tmp\n"
    )
    return told(
        f"The data volume in {namespace} is {used} % full: what fills it?",
        asks(f"An alert says that the data volume in {namespace} is {used} % full. What is in it?"),
        uses(
            "kubectl_exec",
            {"namespace": namespace, "pod": "postgres-0", "command": "df -h && du -sh *"},
            listing,
        ),
        says(
            "Archived WAL takes 41 GB: the job that ships it to object storage has failed since Sunday "
            "with `403 Forbidden`. Once its key is renewed, the archive empties itself. I changed nothing."
        ),
    )


def pull_fails(chance: Chance) -> Told:
    deployment, tag = chance.choice(DEPLOYMENTS), f"2026.{chance.randint(9, 11)}.{chance.randint(1, 9)}"
    message = f"Failed to pull image registry.example.net/{deployment}:{tag}: manifest unknown"
    return told(
        f"Deploy {deployment} {tag}",
        asks(f"Roll out {deployment} {tag} to production."),
        uses("kubectl_set_image", {"deployment": deployment, "tag": tag}, {"updated": True}),
        fails("kubectl_rollout_status", {"deployment": deployment, "timeout": "3m"}, message, 180.0),
        uses("registry_tags", {"image": deployment}, {"newest": [f"{tag}-rc2", f"{tag}-rc1"]}),
        says(
            f"There is no image {tag}: the registry has only `{tag}-rc2`. I undid the change, so the old "
            f"pods serve."
        ),
        status=Status.FAILED,
        error=message,
    )


def scale_for_sale(chance: Chance) -> Told:
    deployment, replicas = chance.choice(DEPLOYMENTS), chance.choice((12, 16, 24))
    hour = chance.choice(("Friday 18:00", "Saturday 09:00", "Monday 07:00"))
    return told(
        f"Scale {deployment} to {replicas} for the sale on {hour}",
        asks(
            f"We expect four times the traffic on {hour}. Scale {deployment} to {replicas} before that, "
            f"and back after."
        ),
        uses(
            "cluster_capacity",
            {"for": {"replicas": replicas, "memory": "1Gi"}},
            {"fits": True, "spare_nodes": 2},
        ),
        uses(
            "schedule_scale",
            {"deployment": deployment, "replicas": replicas, "at": hour, "back_after": "8h"},
            {"id": 77},
        ),
        says(
            f"Scheduled: {replicas} replicas from {hour}, back to 4 eight hours later. The nodes have "
            f"room for it."
        ),
    )


AGENT = Agent(
    name="k8s-agent",
    model="claude-sonnet-4-5",
    source="otlp",
    instructions="You answer questions about our clusters. Look before you touch, and say what you changed.",
    scenarios=(restarting, memory_by_pod, certificates, drain, volume_full, pull_fails, scale_for_sale),
)
