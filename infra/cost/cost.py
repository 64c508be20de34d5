#!/usr/bin/env python3
"""What a deployed Sentinel costs a month, from counted calls (counts.json) and list prices of a day (prices.json).

    python3 infra/cost/cost.py            the table of docs/aws.md
    python3 infra/cost/cost.py --check    ends with 1 where docs/aws.md has another one

What stands there without a single alert is counted in the template itself: alarms, secrets, dashboard.
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PRICES = json.loads((HERE / "prices.json").read_text())
COUNTS = json.loads((HERE / "counts.json").read_text())
GB = 1e9
# A metric is paid for by the hours in which it is written: of few alerts, few hours.
HOURS = 730
# Conditions of the template that hold in a stack by default, with a model's key beside it.
BY_DEFAULT = {"MakesIngestToken", "MakesTable", "HasModelSecret"}


def resources():
    """Type, condition and text of each resource of the template, which is YAML without tags."""
    text = (ROOT / "infra/template.yaml").read_text().split("\nResources:\n")[1].split("\nOutputs:\n")[0]
    for block in re.split(r"\n(?=  [A-Za-z]+:\n    Type: )", "\n" + text):
        kind = re.search(r"^    Type: (\S+)", block, re.M)
        condition = re.search(r"^    Condition: (\S+)", block, re.M)
        if kind and (condition is None or condition[1] in BY_DEFAULT):
            yield kind[1], block


def standing():
    """What is there every month, whatever fires: its count by its price."""
    alarms = secrets = dashboards = 0
    for kind, block in resources():
        if kind == "AWS::CloudWatch::Alarm":
            # An alarm costs by the metrics that it looks at.
            alarms += max(1, block.count("MetricStat:"))
        secrets += kind == "AWS::SecretsManager::Secret"
        dashboards += kind == "AWS::CloudWatch::Dashboard"
    return alarms, secrets + 1, dashboards


def of_lambda(requests, milliseconds):
    seconds = requests * milliseconds / 1000 * COUNTS["memory_gb"]
    return requests * PRICES["lambda_requests_million"] / 1e6 + seconds * PRICES["lambda_arm_gb_second"]


def of_logs(size):
    return size / GB * (PRICES["logs_gb_ingested"] + PRICES["logs_gb_month"])


def of_table(written, read):
    return (written * PRICES["dynamodb_write_million"] + read * PRICES["dynamodb_read_million"]) / 1e6


def month(alerts):
    """Each part of the bill of a month with so many alerts, and the model beside it."""
    alarms, secrets, dashboards = standing()
    incidents = alerts / COUNTS["alerts_per_incident"]
    webhooks = alerts / COUNTS["alerts_per_webhook"]
    duplicates = alerts - incidents
    sweep, webhook, incident = COUNTS["sweep"], COUNTS["webhook"], COUNTS["incident"]
    metrics = COUNTS["custom_metrics"]
    # An hour in which it is written; at most all of them.
    hours = lambda events: min(HOURS, events) / HOURS
    custom = len(metrics["idle"]) + len(metrics["per_alert"]) * hours(webhooks) + len(metrics["per_incident"]) * hours(incidents)
    kept = incidents * incident["bytes"] * COUNTS["retention_days"] / 30.4 / GB
    return {
        "alarms": alarms * PRICES["alarm_metric_month"],
        "secrets": secrets * PRICES["secret_month"],
        "dashboard": dashboards * PRICES["dashboard_month"],
        "custom metrics": custom * PRICES["custom_metric_month"],
        "queue": (COUNTS["idle_polls_a_month"] + incidents * incident["queue_requests"]) * PRICES["sqs_requests_million"] / 1e6,
        "functions": of_lambda(COUNTS["sweeps_a_month"], sweep["milliseconds"]) + of_lambda(webhooks, webhook["milliseconds"])
        + of_lambda(incidents, incident["milliseconds"]),
        "table": of_table(incidents * (COUNTS["alert"]["write_units"] + incident["write_units"]) + duplicates * COUNTS["duplicate"]["write_units"],
                          COUNTS["sweeps_a_month"] * sweep["reads"] * 0.5 + incidents * incident["reads"]),
        "API": webhooks * PRICES["http_api_requests_million"] / 1e6,
        "logs": of_logs(COUNTS["sweeps_a_month"] * sweep["log_bytes"] + webhooks * webhook["log_bytes"] + incidents * incident["log_bytes"]),
        "kept, once a year is full": kept * (PRICES["dynamodb_gb_month"] + PRICES["dynamodb_backup_gb_month"]),
    }, incidents * COUNTS["model_usd_per_incident"]


def table():
    lines = ["| alerts a month | AWS | of which | model |", "|---|---|---|---|"]
    for alerts in (0, 1_000, 100_000):
        parts, model = month(alerts)
        most = sorted(parts.items(), key=lambda part: -part[1])[:4]
        shown = ", ".join(f"{name} ${usd:.2f}" for name, usd in most)
        incidents = int(alerts / COUNTS["alerts_per_incident"])
        of = f" ({incidents:,} incidents)" if alerts else ""
        lines.append(f"| {alerts:,}{of} | ${sum(parts.values()):.2f} | {shown} | ${model:,.0f} |")
    one = COUNTS["incident"]["bytes"] / GB * (PRICES["dynamodb_gb_month"] + PRICES["dynamodb_backup_gb_month"]) * 12
    lines += ["", f"List prices of {PRICES['region']} on {PRICES['looked_up']}, without free tiers. A kept incident costs ${one * 1000:.2f} a year for a "
              "thousand of them."]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        if table() not in (ROOT / "docs/aws.md").read_text():
            sys.exit("docs/aws.md has another table of costs than `python3 infra/cost/cost.py` prints:\n" + table())
    else:
        print(table())
