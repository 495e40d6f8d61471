"""revenue-analyst: answers questions about money with SQL, tables and files."""

import gzip

from runs.demo.pictures import bar_chart
from runs.demo.story import Agent, Chance, Told, asks, binary, fails, json_data, markdown, says, told, uses
from runs.models import Status

PLANS = ("Free", "Team", "Business", "Enterprise")
COUNTRIES = ("Germany", "Portugal", "Japan", "Poland", "Canada", "Brazil")


def by_plan(chance: Chance) -> Told:
    country, week = chance.choice(COUNTRIES), chance.randint(41, 46)
    amounts = [0, *(chance.randint(8, 90) * 1_000 + chance.randint(0, 999) for _ in PLANS[1:])]
    rows = [{"plan": plan, "revenue_eur": amount} for plan, amount in zip(PLANS, amounts, strict=True)]
    table = "\n".join(f"| {row['plan']} | {row['revenue_eur']:,} € |" for row in rows)
    csv = "plan,revenue_eur\n" + "".join(f"{row['plan']},{row['revenue_eur']}\n" for row in rows)
    period = f"country = '{country}' AND week = {week}"
    sql = f"SELECT plan, sum(amount) FROM payment WHERE {period} GROUP BY plan"  # noqa: S608  shown, never run
    question = f"Revenue by plan in {country}, week {week}"
    return told(
        question,
        asks(f"{question}, please, as a table and as a file."),
        uses("run_sql", {"sql": sql, "limit": 100}, {"rows": rows}, 2.3),
        says(
            f"| Plan | Revenue |\n| --- | ---: |\n{table}\n\n{max(rows, key=_revenue)['plan']} brings most."
        ),
        made=[
            binary(f"revenue-{country.lower()}-w{week}.csv", csv.encode(), "text/csv"),
            binary("revenue-by-plan.png", bar_chart(amounts), "image/png"),
        ],
    )


def _revenue(row: dict[str, object]) -> int:
    return int(str(row["revenue_eur"]))


def churn(chance: Chance) -> Told:
    plan, lost = chance.choice(PLANS[1:]), chance.randint(14, 63)
    weeks = [chance.randint(3, 9) for _ in range(11)] + [lost]
    reasons = [
        {"reason": "card expired, reminder never sent", "customers": lost * 6 // 10},
        {"reason": "moved to another plan", "customers": lost // 5},
        {"reason": "left", "customers": lost - lost * 6 // 10 - lost // 5},
    ]
    return told(
        f"Why did {lost} customers of {plan} leave last week?",
        asks(
            f"The dashboard shows {lost} cancellations of {plan} last week. It is never more than ten. "
            f"What happened?"
        ),
        uses(
            "run_sql",
            {"sql": "SELECT reason, count(*) FROM cancellation WHERE ... GROUP BY reason"},
            {"rows": reasons},
            3.1,
        ),
        uses(
            "read_logs",
            {"service": "mail-worker", "grep": "card_expiry"},
            "ERROR template card_expiry.html not found",
            1.2,
        ),
        says(
            f"Most did not leave: the cards of {reasons[0]['customers']} expired, and the mail that asks "
            f"for a new one was not sent, because its template was renamed on Monday. "
            f"{reasons[2]['customers']} customers really left, which is a usual week. The list holds all "
            f"whose card expired."
        ),
        made=[
            binary("cancellations.png", bar_chart(weeks, mark_last=True), "image/png"),
            json_data("reasons.json", reasons),
        ],
    )


def mismatch(chance: Chance) -> Told:
    month, missing = chance.choice(("August", "September", "October")), chance.randint(3, 17)
    rows = "".join(f"INV-{4000 + n * 7},{chance.randint(20, 900)}.00,not in ledger\n" for n in range(missing))
    archive = gzip.compress(f"invoice,amount,finding\n{rows}".encode(), mtime=0)
    return told(
        f"{month}: {missing} invoices are not in the ledger",
        asks(f"Invoices and ledger differ for {month}. Which invoices are missing in the ledger?"),
        uses(
            "run_sql",
            {"sql": "SELECT invoice FROM invoices EXCEPT SELECT invoice FROM ledger"},
            {"count": missing},
            8.8,
        ),
        says(
            f"{missing} invoices are missing, all from the last day of {month} after 22:00 UTC: the "
            f"export ends at midnight local time."
        ),
        made=[binary(f"missing-{month.lower()}.csv.gz", archive, "application/gzip")],
    )


def wrong_column(chance: Chance) -> Told:
    quarter, rate = f"Q{chance.randint(1, 3)}", chance.uniform(9, 23)
    asked = f"How many trials became customers in {quarter}?"
    return told(
        asked,
        asks(asked),
        fails(
            "run_sql",
            {"sql": "SELECT count(converted) FROM trials"},
            'column "converted" does not exist',
            0.3,
        ),
        uses(
            "describe_table",
            {"table": "trials"},
            {"columns": ["id", "started_at", "ended_at", "customer_id"]},
        ),
        uses(
            "run_sql",
            {"sql": "SELECT count(*), count(customer_id) FROM trials WHERE ..."},
            {"rows": [[2114, int(2114 * rate / 100)]]},
            1.7,
        ),
        says(
            f"{int(2114 * rate / 100)} of 2,114 trials, which is {rate:.1f} %. The year before it was 14.2 %."
        ),
    )


def forecast(chance: Chance) -> Told:
    values = [round(1.1 + n * 0.06 + chance.uniform(-0.05, 0.05), 2) for n in range(9)]
    report = (
        f"# Revenue until the end of the year\n\n**Expected:** {values[-1]:.2f} M € a month in December, "
        f"between {values[-1] - 0.12:.2f} and {values[-1] + 0.1:.2f}.\n\n## What it rests on\n\n- "
        f"Renewals that are due, with the share that renewed last year\n- No new prices\n\n## What would "
        f"change it\n\n> Two contracts of Enterprise end in November. Without them, December is 6 % lower.\n"
    )
    return told(
        chance.choice(
            (
                "Forecast revenue until December",
                "What will we earn in December?",
                "Year-end forecast for the board",
            )
        ),
        asks("What monthly revenue can we expect until the end of the year, and how sure is that?"),
        uses(
            "run_sql",
            {"sql": "SELECT month, sum(amount) FROM payment GROUP BY month"},
            {"rows": len(values)},
            2.8,
        ),
        uses("fit_trend", {"values": values, "season": 12}, {"december": values[-1], "error": 0.11}, 4.5),
        says(
            f"About {values[-1]:.2f} M € in December. Two contracts decide how sure that is; the report "
            f"names them."
        ),
        made=[
            markdown("forecast.md", report),
            binary("forecast.png", bar_chart(values, mark_last=True), "image/png"),
        ],
    )


def no_right(chance: Chance) -> Told:
    table = chance.choice(("salary", "bank_account", "customer_card"))
    sql = f"SELECT department, avg(amount) FROM {table} GROUP BY 1"  # noqa: S608  shown, never run
    message = f"permission denied for table {table}"
    return told(
        f"Average of {table.replace('_', ' ')} by department",
        asks(f"Give me the average per department from {table}."),
        fails("run_sql", {"sql": sql}, message, 0.2),
        says(
            f"I may not read `{table}`, and I think that is meant to be so. Ask the data owner if you "
            f"need it."
        ),
        status=Status.FAILED,
        error=message,
    )


AGENT = Agent(
    name="revenue-analyst",
    model="gemini-2.5-flash",
    source="api",
    instructions="You answer questions about revenue with SQL. Say what a number rests on.",
    scenarios=(by_plan, churn, mismatch, wrong_column, forecast, no_right),
)
