"""The benchmark of the Lambdas; `lambda.sh` builds what it runs. README.md beside it says what is measured, and how."""

import json
import os
import platform
import select
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from importlib.metadata import version
from pathlib import Path

from measure import cpu_ms, peak_mb

ROOT = Path(__file__).resolve().parents[2]
# Where `cargo lambda build` leaves zips and programs: in a folder for each.
BUILT = ROOT / "target/lambda"
# `bare` once more and `least`, linked as ours are.
BARE_STATIC, LEAST = (ROOT / f"target/lambda-static/{name}/bootstrap" for name in ("bare", "least"))
FUNCTIONS = ("ingest", "worker", "sweeper")
PYTHON = Path(__file__).resolve().parent / "python"
QUICK = bool(os.environ.get("SENTINEL_BENCH_QUICK"))
STARTS = 5 if QUICK else 41
PYTHON_STARTS = 1 if QUICK else 7
ROUNDS = 2 if QUICK else 12
ALERTS = 10 if QUICK else 50
STORMS = 1 if QUICK else 5
KEYS = 500
# The template sets it: one file loads several times faster than the folders that are searched without it.
CERTIFICATES = ssl.get_default_verify_paths().openssl_cafile
# Lambda gives a function nothing of this machine's environment.
LAMBDA = {
    "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "test", "AWS_LAMBDA_FUNCTION_NAME": "bench",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "LANG": "en_US.UTF-8",
    "TZ": ":UTC", "PATH": "/usr/local/bin:/usr/bin:/bin", "SSL_CERT_FILE": CERTIFICATES,
    "AWS_CA_BUNDLE": "infra/aws-roots.pem",
}


def program(name):
    """One of tests/bench's own."""
    return BUILT / name / "bootstrap"


def deployed(function):
    return BUILT / f"sentinel-{function}" / "bootstrap.zip"


class Stub:
    def __init__(self):
        self.process = subprocess.Popen([program("stub")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        told = json.loads(self.process.stdout.readline())
        self.aws, self.runtimes = told["aws"], told["runtimes"]

    def control(self, path, data=None, method=None):
        request = urllib.request.Request(f"http://{self.aws}/control/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def counts(self):
        return self.control("counts")


class Function:
    """One Lambda's process. `started`: ms from exec to its first /next; `cpu`: the CPU ms that this took."""

    def __init__(self, stub, slot, command, folder, env):
        self.stub, self.slot = stub, slot
        stub.control(f"reset/{slot}", method="POST")
        # Lambda reads it from a pipe: a file on a disk would cost the function more.
        self.log = open(os.memfd_create("log"), "w+b")
        self.began = began = time.monotonic_ns()
        self.process = subprocess.Popen(
            command, cwd=folder, env=LAMBDA | env | {"AWS_LAMBDA_RUNTIME_API": stub.runtimes[slot]},
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.pid = self.process.pid
        try:
            ready = stub.control(f"ready/{slot}")
        except OSError as error:
            self.fail(error)
        self.started = (ready["first_next_ns"] - began) / 1e6
        self.cpu, self.memory = cpu_ms(self.pid), peak_mb(self.pid)

    def first_answer(self, event):
        """ms from exec to the answer to the first event, this program's own dawdling in between included."""
        self.answer(event)
        return (time.monotonic_ns() - self.began) / 1e6

    def answer(self, event):
        """The CPU ms of one event, whatever the answer is."""
        before = cpu_ms(self.pid)
        try:
            self.stub.control(f"invoke/{self.slot}", json.dumps([event]).encode())
        except OSError as error:
            self.fail(error)
        return cpu_ms(self.pid) - before

    def invoke(self, events, wanted):
        """Hands the events out one by one; gives the ms of each, and the CPU ms of all."""
        before = cpu_ms(self.pid)
        try:
            outcomes = self.stub.control(f"invoke/{self.slot}", json.dumps(events).encode())
        except OSError as error:
            self.fail(error)
        used = cpu_ms(self.pid) - before
        for outcome in outcomes:
            answer = json.loads(outcome["answer"])
            if answer.get("statusCode") != 200 or not wanted.items() <= json.loads(answer["body"]).items():
                self.fail(f"not {wanted}: {outcome['answer'][:2000]}")
        return [outcome["ms"] for outcome in outcomes], used

    def fail(self, why):
        self.log.seek(0)
        log = self.log.read().decode(errors="replace")[-4000:]
        self.end()
        sys.exit(f"{self.process.args}: {why}\n{log}")

    def end(self):
        self.process.kill()
        self.process.wait()


class Floor:
    """The bare client of `floor.rs`."""

    def __init__(self, stub):
        self.process = subprocess.Popen([program("floor"), stub.aws], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)

    def times(self, what, n):
        """The ms of each."""
        self.process.stdin.write(f"{what} {n}\n")
        if not select.select([self.process.stdout], [], [], 60)[0]:
            sys.exit("the floor's client does not answer")
        return json.loads(self.process.stdout.readline())


def webhook(names):
    """Alertmanager's message, as API Gateway hands it on (payload version 2). A name is an incident of its own."""
    alerts = [{
        "status": "firing",
        "labels": {"alertname": name, "namespace": "shop", "pod": "cart-6d4cf56db6-x2v7q", "severity": "warning",
                   "prometheus": "monitoring/k8s"},
        "annotations": {"summary": "Pod is not ready", "runbook_url": "https://runbooks.example/pod-not-ready",
                        "description": "Pod shop/cart-6d4cf56db6-x2v7q has been in a non-ready state for 15 minutes."},
        "startsAt": "2026-11-22T12:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph?g0.expr=up", "fingerprint": "c0c97f55bd8a9c6e",
    } for name in names]
    body = {"version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "sentinel",
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
            "externalURL": "http://alertmanager.example", "alerts": alerts}
    return {
        "version": "2.0", "routeKey": "POST /webhook/alertmanager", "rawPath": "/webhook/alertmanager",
        "rawQueryString": "",
        "headers": {"host": "abc.execute-api.us-east-1.amazonaws.com", "content-type": "application/json",
                    "authorization": "Bearer bench", "user-agent": "Alertmanager/0.28", "x-forwarded-proto": "https"},
        "requestContext": {
            "accountId": "000000000000", "apiId": "abc", "domainName": "abc.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "abc", "requestId": "r", "routeKey": "POST /webhook/alertmanager", "stage": "$default",
            "time": "22/Nov/2026:12:00:00 +0000", "timeEpoch": 1795348800000,
            "http": {"method": "POST", "path": "/webhook/alertmanager", "protocol": "HTTP/1.1",
                     "sourceIp": "192.0.2.1", "userAgent": "Alertmanager/0.28"}},
        "body": json.dumps(body), "isBase64Encoded": False,
    }


class Bench:
    def __init__(self, stub, folder):
        self.stub, self.made = stub, 0
        self.rows = []
        # The very files that are deployed, with the built-in configuration, which is a large one, and the one thing that it
        # leaves to its user: who may post.
        for function in FUNCTIONS:
            with zipfile.ZipFile(deployed(function)) as files:
                files.extractall(folder / function)
            (folder / function / "bootstrap").chmod(0o755)
            built_in = (ROOT / "infra/sentinel.yaml").read_text()
            (folder / function / "infra/sentinel.yaml").write_text(built_in + "\ningest: {bearer: [bench]}\n")
        self.folder = folder
        self.aws = {"AWS_ENDPOINT_URL": f"http://{stub.aws}"}
        self.deployment = self.aws | {
            "SENTINEL_TABLE": "bench", "SENTINEL_QUEUE_URL": f"http://{stub.aws}/000000000000/bench",
            "SENTINEL_CONFIG": "infra/sentinel.yaml"}

    def ours(self, slot, name):
        folder = self.folder / name
        return Function(self.stub, slot, [folder / "bootstrap"], folder, self.deployment)

    def least(self, slot):
        """In ingest's folder, where the certificates are."""
        return Function(self.stub, slot, [LEAST], self.folder / "ingest", self.deployment)

    def bare(self, slot, path=program("bare")):
        return Function(self.stub, slot, [path], self.folder, {})

    def python(self, slot, threads=1):
        env = {"TABLE": "bench", "QUEUE_URL": f"http://{self.stub.aws}/000000000000/bench", "THREADS": str(threads),
               "POWERTOOLS_SERVICE_NAME": "bench", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "awslambdaric", "handler.handler"]
        return Function(self.stub, slot, command, PYTHON, self.aws | env)

    def names(self, n):
        self.made += n
        return [f"Bench{m}" for m in range(self.made - n, self.made)]

    def events(self, n):
        return [webhook([name]) for name in self.names(n)]

    def row(self, what, figure, target=None, met=None):
        verdict = "" if target is None else ("met" if met else "not met")
        self.rows.append((what, figure, target or "", verdict))

    def ratio(self, what, ratio, target, at_most, detail):
        sign = "≤" if at_most else "≥"
        met = ratio <= target if at_most else ratio >= target
        self.row(what, f"{ratio:.2f} ×  ({detail})", f"{sign} {target:g} ×", met)

    # --- What is measured ------------------------------------------------------------------------------------------

    def starts(self):
        kinds = {"bare": lambda: self.bare(0), "static": lambda: self.bare(0, BARE_STATIC), "least": lambda: self.least(0),
                 "ingest": lambda: self.ours(0, "ingest"), "worker": lambda: self.ours(0, "worker"),
                 "sweeper": lambda: self.ours(0, "sweeper")}
        seen = {kind: [] for kind in kinds}
        ready, first = [], {"least": [], "ingest": []}
        for turn in range(STARTS + 1):
            for kind, start in kinds.items():
                function = start()
                if kind == "worker":  # It compiles its cards beside, and answers when they are compiled.
                    ready.append(function.first_answer({"Records": []}))
                if kind in first:  # What a start leaves for later is paid for here.
                    first[kind].append(function.answer(*self.events(1)))
                function.end()
                if turn:  # The first reads the files from the disk.
                    seen[kind].append((function.started, function.cpu, function.memory))
        middle = {kind: [statistics.median(column) for column in zip(*rows)] for kind, rows in seen.items()}
        first = {kind: f"{statistics.median(rows[1:]):.1f} ms CPU" for kind, rows in first.items()}
        bare = middle["bare"]
        for kind, how in (("bare", "bare lambda_runtime"), ("static", "bare, static as ours"), ("least", "least")):
            wall, cpu, memory = middle[kind]
            self.row(f"start, {how}", f"{wall:.1f} ms, {cpu:.1f} ms CPU, {memory:.1f} MB")
        self.row("  its first alert", first["least"])
        for kind, target in (("ingest", 2), ("worker", 3)):
            wall, cpu, memory = middle[kind]
            self.ratio(f"start, {kind} / bare", wall / bare[0], target, True, f"{wall:.1f} ms")
            self.row("  in CPU time", f"{cpu / bare[1]:.2f} ×  ({cpu:.1f} ms)")
            self.row("  against the static bare", f"{wall / middle['static'][0]:.2f} ×")
            self.row("  memory at the first event", f"{memory:.1f} MB", "≤ 16 MB", memory <= 16)
            if kind == "worker":
                self.row("  to its first answer", f"{statistics.median(ready[1:]):.1f} ms")
            else:
                self.row("  its first alert", first["ingest"])
        wall, cpu, memory = middle["sweeper"]
        self.row("start, sweeper", f"{wall:.1f} ms, {cpu:.1f} ms CPU, {memory:.1f} MB")

    def zips(self):
        for kind, target in (("ingest", 5), ("worker", 8)):
            size = deployed(kind).stat().st_size / 1e6
            self.row(f"zip, {kind}", f"{size:.2f} MB", f"≤ {target} MB", size <= target)

    def warm(self):
        """One alert at a time, in turns with the floor, with the least and with Python."""
        ours, python, least, floor = self.ours(0, "ingest"), self.python(1), self.least(2), Floor(self.stub)
        few = max(1, ALERTS // 5)
        # How many of the alerts each takes, and what it answers to new ones and to duplicates.
        functions = {"ours": (ours, ALERTS, {"accepted": 1}, {"duplicates": 1}),
                     "least": (least, ALERTS, {"accepted": 1}, {"duplicates": 1}),
                     "python": (python, few, {"taken": 1}, {"taken": 1})}
        # Connections are opened and caches filled before anything counts.
        for function, _, new, _ in functions.values():
            function.invoke(self.events(ALERTS), new)
        floor.times("new", ALERTS)
        one, two = ({kind: [] for kind in (*functions, "floor")} for _ in range(2))
        cpu_one, cpu_two = ({kind: [] for kind in functions} for _ in range(2))
        for _ in range(ROUNDS):
            one["floor"] += floor.times("new", ALERTS)
            events = self.events(ALERTS)
            for kind, (function, n, new, _) in functions.items():
                before = self.stub.counts()
                times, used = function.invoke(events[:n], new)
                after = self.stub.counts()
                made = [after[call] - before.get(call, 0) for call in ("PutItem", "SendMessage")]
                if kind != "python" and made != [2 * n, n]:
                    sys.exit(f"{kind}: not two items and a message an alert: {before} {after}")
                one[kind] += times
                cpu_one[kind].append(used / n)
            self.stub.control("started", method="POST")
            two["floor"] += floor.times("duplicate", ALERTS)
            for kind, (function, n, _, again) in functions.items():
                times, used = function.invoke(events[:n], again)
                two[kind] += times
                cpu_two[kind].append(used / n)
        one, two, cpu_one, cpu_two = ({kind: statistics.median(seen) for kind, seen in all_of.items()}
                                      for all_of in (one, two, cpu_one, cpu_two))
        self.row("floor: create, send", f"{one['floor']:.2f} ms")
        self.ratio("new alert / floor", one["ours"] / one["floor"], 1.15, True, f"{one['ours']:.2f} ms")
        self.row("floor: one round trip", f"{two['floor']:.2f} ms")
        self.ratio("duplicate / floor", two["ours"] / two["floor"], 1.15, True, f"{two['ours']:.2f} ms")
        for function, *_ in functions.values():
            function.end()
        floor.process.stdin.close()
        floor.process.wait()
        return (one, cpu_one), (two, cpu_two)

    def storm(self, single):
        """A webhook of 500 keys, in turns with Python, one after the other and in 32 threads."""
        ours, python, threads = self.ours(0, "ingest"), self.python(1), self.python(2, threads=32)
        ours.invoke(self.events(3), {"accepted": 1})
        for other in (python, threads):
            other.invoke(self.events(3), {"taken": 1})
        took = {kind: [] for kind in ("ours", "python", "threads")}
        cpu = {kind: [] for kind in took}
        batches = self.stub.counts().get("SendMessageBatch", 0)
        for turn in range(STORMS):
            for kind, function, wanted in (("ours", ours, {"accepted": KEYS}), ("python", python, {"taken": KEYS}),
                                           ("threads", threads, {"taken": KEYS})):
                if kind == "python" and turn >= 3:
                    continue
                times, used = function.invoke([webhook(self.names(KEYS))], wanted)
                took[kind] += times
                cpu[kind].append(used)
        batches = (self.stub.counts().get("SendMessageBatch", 0) - batches) / STORMS
        time_of = {kind: statistics.median(times) for kind, times in took.items()}
        used = {kind: statistics.median(times) for kind, times in cpu.items()}
        self.ratio("500 keys / new alert", time_of["ours"] / single, 60, True,
                   f"{time_of['ours']:.0f} ms, {batches:.0f} batch sends")
        self.row("  memory after 500 keys", f"{peak_mb(ours.pid):.1f} MB")
        memory = peak_mb(python.pid)
        for function in (ours, python, threads):
            function.end()
        return time_of, used, memory

    def python_starts(self):
        python, ingest = [], []
        for turn in range(PYTHON_STARTS + 1):
            for into, start in ((python, lambda: self.python(1)), (ingest, lambda: self.ours(0, "ingest"))):
                function = start()
                function.end()
                if turn:
                    into.append((function.started, function.cpu, function.memory))
        return tuple([statistics.median(column) for column in zip(*rows)] for rows in (python, ingest))

    def run(self):
        self.starts()
        self.zips()
        singles = self.warm()
        time_of, used, memory = self.storm(singles[0][0]["ours"])
        python, ingest = self.python_starts()
        self.row("", "")
        self.row("Python: start", f"{python[0]:.0f} ms, {python[1]:.0f} ms CPU, {python[2]:.0f} MB")
        self.ratio("  start, Python / ingest", python[0] / ingest[0], 40, False, f"{ingest[0]:.1f} ms")
        self.row("  in CPU time", f"{python[1] / ingest[1]:.0f} ×  ({ingest[1]:.1f} ms)")
        for what, target, (took, cpu) in zip(("new alert", "duplicate"), (10, 6), singles):
            self.row(f"Python: {what}", f"{took['python']:.1f} ms, {cpu['python']:.2f} ms CPU")
            self.ratio("  CPU, Python / ingest", cpu["python"] / cpu["ours"], target, False, f"{cpu['ours']:.2f} ms")
            self.row("  CPU, Python / least", f"{cpu['python'] / cpu['least']:.2f} ×  ({cpu['least']:.2f} ms)")
        self.row("Python: 500 keys", f"{time_of['python'] / 1e3:.2f} s, {used['python'] / 1e3:.2f} s CPU, {memory:.0f} MB")
        self.ratio("  time, Python / ingest", time_of["python"] / time_of["ours"], 20, False,
                   f"{time_of['ours']:.0f} ms")
        self.row("  in CPU time", f"{used['python'] / used['ours']:.1f} ×  ({used['ours']:.0f} ms)")
        self.row("Python, 32 threads: 500 keys", f"{time_of['threads'] / 1e3:.2f} s, {used['threads'] / 1e3:.2f} s CPU")
        self.row("  time, Python / ingest", f"{time_of['threads'] / time_of['ours']:.1f} ×")


def main():
    programs = [BARE_STATIC, LEAST, *(program(name) for name in ("stub", "floor", "bare"))]
    for file in [*programs, *(deployed(name) for name in FUNCTIONS)]:
        if not file.is_file():
            sys.exit(f"{file} is not there: run tests/bench/lambda.sh without SENTINEL_BENCH_NO_BUILD")
    stub = Stub()
    try:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(stub, Path(folder))
            bench.run()
    finally:
        stub.process.stdin.close()
        stub.process.wait(timeout=10)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
          f"Powertools {version('aws-lambda-powertools')}, boto3 {version('boto3')}; medians of {STARTS} starts, "
          f"{ROUNDS * ALERTS} alerts, {STORMS} notifications of {KEYS}{' (quick: no figures to keep)' if QUICK else ''}\n")
    widths = [max(len(row[column]) for row in bench.rows) for column in range(3)]
    for row in bench.rows:
        print("  ".join([text.ljust(width) for text, width in zip(row, widths)] + [row[3]]).rstrip())


if __name__ == "__main__":
    main()
