#!/usr/bin/env python3
"""What saturates first, and how long a storm takes to drain: from the counts of counts.json and the limits that AWS states.

    python3 infra/cost/scale.py           the tables of docs/scale.md
    python3 infra/cost/scale.py --check   ends with 1 where docs/scale.md has others

Arithmetic, not a measurement: each line is a load divided by a limit.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
COUNTS = json.loads((HERE / "counts.json").read_text())
INCIDENT = COUNTS["incident"]
INVESTIGATION_SECONDS = INCIDENT["milliseconds"] / 1000

# Per second. https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html and the template.
TABLE_WRITES = 4000          # units, of a new table on demand; it doubles within half an hour, or WarmThroughput says so
RECENT_SHARDS = 4            # partitions that the index of the newest is spread over (crates/aws/src/item.rs); the other has 8
PARTITION_WRITES = 1000      # units of one partition
BUDGET_WRITES = 1000         # of the one item that counts a day's spending
API_REQUESTS = 200           # ThrottleRate
SLOTS = 2 * 4                # WorkerConcurrency × WorkerBatchSize
SWEPT = 1000 / 60            # incidents of one sweep
MODEL = 500 / 60             # requests: the smallest of OpenAI's paid tiers; ask your account


def loads(alerts_a_second):
    """What so many alerts a second ask of each part, as a share of what it gives."""
    incidents = alerts_a_second / COUNTS["alerts_per_incident"]
    writes = incidents * (COUNTS["alert"]["write_units"] + INCIDENT["write_units"]) + (alerts_a_second - incidents) * COUNTS["duplicate"]["write_units"]
    turns = 6
    return {
        "worker slots (WorkerConcurrency × WorkerBatchSize)": incidents * INVESTIGATION_SECONDS / SLOTS,
        "the model's rate limit": incidents * turns / MODEL,
        "the sweeper, were every message lost": incidents / SWEPT,
        "the API (ThrottleRate)": alerts_a_second / COUNTS["alerts_per_webhook"] / API_REQUESTS,
        "the table (WarmThroughput)": writes / TABLE_WRITES,
        "the index of the newest": incidents * 2 / (RECENT_SHARDS * PARTITION_WRITES),
        "the budget's item": incidents * turns * 2 / BUDGET_WRITES,
    }


def day():
    lines = ["| alerts a day | saturates first | then | then |", "|---|---|---|---|"]
    for alerts in (10_000, 100_000, 1_000_000):
        worst = sorted(loads(alerts / 86_400).items(), key=lambda part: -part[1])[:3]
        cells = [f"{name}: {share:.0%}" if share < 10 else f"{name}: {share:.0f} ×" for name, share in worst]
        lines.append(f"| {alerts:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def storm(alerts=50_000, seconds=60):
    """50,000 alerts within a minute, each an incident of its own: how long until each part is through with them."""
    webhooks = alerts / COUNTS["alerts_per_webhook"]
    rows = [
        ("taking the webhooks (ThrottleRate)", webhooks / API_REQUESTS, "ThrottleRate, ThrottleBurst"),
        ("writing what they hold (a new table)", alerts * COUNTS["alert"]["write_units"] / TABLE_WRITES, "WarmThroughput"),
        ("one investigation each, 8 slots", alerts * INVESTIGATION_SECONDS / SLOTS, "WorkerConcurrency"),
        ("one investigation each, 400 slots", alerts * INVESTIGATION_SECONDS / 400, "and the model's rate limit"),
        ("without a model, once the budget is used up, 8 slots", alerts * 2 / SLOTS, "budget"),
        ("the model, 6 turns each", alerts * 6 / MODEL, "the account's tier"),
    ]
    lines = ["| of 50,000 alerts within a minute, 50,000 incidents | takes | moved by |", "|---|---|---|"]
    for what, takes, by in rows:
        shown = f"{takes:.0f} s" if takes < 600 else f"{takes / 3600:.1f} h" if takes < 172_800 else f"{takes / 86_400:.1f} days"
        lines.append(f"| {what} | {shown} | {by} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        page = (HERE.parent.parent / "docs/scale.md").read_text()
        for table in (day(), storm()):
            if table not in page:
                sys.exit("docs/scale.md has another table than `python3 infra/cost/scale.py` prints:\n" + table)
    else:
        print(day(), storm(), sep="\n\n")
