"""The benchmark of investigations; `agents.sh` builds what it runs. README.md beside it says what is measured, and how."""

import json
import os
import platform
import select
import statistics
import subprocess
import sys
import urllib.request
from importlib.metadata import version
from pathlib import Path

from measure import cpu_ms, peak_mb

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target/release"
QUICK = bool(os.environ.get("SENTINEL_BENCH_QUICK"))
ROUNDS = 1 if QUICK else 7
# MODEL_MS/TOOL_MS/TURNS/CALLS/BYTES, see servers.rs, and the critical path: the turns' answers and calls, one after the
# other, and the report.
USUAL = ("200/50/5/3/1000", 5 * (200 + 50) + 200)
SLOW = ("800/200/5/3/1000", 5 * (800 + 200) + 800)
LONG = "0/0/9/1/20480"


class Servers:
    """The scripted model and the MCP server. A process of their own, so that theirs is not counted."""

    def __init__(self):
        self.process = subprocess.Popen([RELEASE / "servers"], stdout=subprocess.PIPE, text=True)
        self.address = json.loads(self.process.stdout.readline())["address"]

    def url(self, scenario):
        return f"http://{self.address}/{scenario}"

    def counts(self, method=None):
        request = urllib.request.Request(f"http://{self.address}/counts", method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
        return json.loads(body) if body else None


class Agent:
    """A process that runs investigations. `start`: the CPU ms that it took to be ready."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.read()
        self.start = cpu_ms(self.process.pid)

    def read(self):
        if not select.select([self.process.stdout], [], [], 300)[0]:
            sys.exit(f"{self.process.args} does not answer")
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args} has ended")
        return json.loads(line)

    def run(self, many, url):
        """Runs so many at once; gives their ms, the CPU ms, and the most memory so far."""
        before = cpu_ms(self.process.pid)
        self.process.stdin.write(f"{many} {url}\n")
        ms = self.read()["ms"]
        return ms, cpu_ms(self.process.pid) - before, peak_mb(self.process.pid)

    def end(self):
        self.process.kill()
        self.process.wait()


class Bench:
    def __init__(self, servers):
        self.servers = servers
        self.rows = []
        self.kinds = {"ours": [RELEASE / "agent"], "sdk": [sys.executable, ROOT / "tests/bench/python/sdk.py"]}

    def row(self, what, figure, target=None, met=None):
        verdict = "" if target is None else ("met" if met else "not met")
        self.rows.append((what, figure, target or "", verdict))

    def at_most(self, what, value, target, detail):
        self.row(what, f"{value:.3f} ×  ({detail})" if detail else f"{value:.3f} ×", f"≤ {target:g} ×", value <= target)

    def measure(self, kind, many, scenario, rounds, before=0):
        """Each in a process of its own that has made so many investigations before: the least ms; medians of CPU ms, MB
        and the start's CPU ms; what the last one sent and asked."""
        seen = []
        for _ in range(rounds):
            agent = Agent(self.kinds[kind])
            for _ in range(before):
                agent.run(1, self.servers.url(scenario))
            self.servers.counts("DELETE")
            seen.append((*agent.run(many, self.servers.url(scenario)), agent.start))
            agent.end()
        counts = self.servers.counts()
        ms, *others = zip(*seen)
        return [min(ms), *(statistics.median(column) for column in others)], counts

    def one_and_twenty(self):
        scenario, path = USUAL
        one, warm, twenty, sent = {}, {}, {}, {}
        for kind in self.kinds:
            one[kind], sent[kind] = self.measure(kind, 1, scenario, ROUNDS)
            warm[kind], _ = self.measure(kind, 1, scenario, ROUNDS, before=1)
            twenty[kind], _ = self.measure(kind, 20, scenario, max(1, ROUNDS // 2))
        for kind, name in (("ours", ""), ("sdk", "SDK: ")):
            ms, cpu, memory, start = one[kind]
            counts = sent[kind]
            detail = f"{ms:.0f} ms of {path}"
            if kind == "ours":
                self.at_most("one, first of its process / critical path", ms / path, 1.05, detail)
            else:
                self.row(f"{name}one, first / critical path", f"{ms / path:.3g} ×  ({detail})")
            self.row(f"{name}  CPU, memory", f"{cpu:.0f} ms, {memory:.1f} MB; its start {start:.0f} ms")
            self.row(f"{name}  asked", f"{counts['turns']} turns, {counts['calls']} calls, {counts['lists']} tool lists, "
                     f"about {counts['sent'] // 4:,} tokens")
            ms, cpu, *_ = warm[kind]
            detail = f"{ms:.0f} ms, {cpu:.0f} ms CPU"
            if kind == "ours":
                self.at_most("one, later / critical path", ms / path, 1.05, detail)
            else:
                self.row(f"{name}one, later / critical path", f"{ms / path:.3g} ×  ({detail})")
            ms, cpu, memory, _ = twenty[kind]
            detail = f"{ms:.0f} ms, {cpu:.0f} ms CPU, {memory:.1f} MB"
            if kind == "ours":
                self.at_most("twenty at once / one", ms / one[kind][0], 1.1, detail)
            else:
                self.row(f"{name}twenty at once / one", f"{ms / one[kind][0]:.3g} ×  ({detail})")
        self.at_most("CPU of one, ours / SDK's", one["ours"][1] / one["sdk"][1], 0.1, "neither with its start")
        self.at_most("CPU of twenty, ours / SDK's", twenty["ours"][1] / twenty["sdk"][1], 0.1, "")
        self.at_most("memory of one, ours / SDK's", one["ours"][2] / one["sdk"][2], 0.25, "")

    def hundred(self):
        scenario, path = SLOW
        rounds = 1 if QUICK else 3
        one, _ = self.measure("ours", 1, scenario, rounds)
        many, _ = self.measure("ours", 100, scenario, rounds)
        self.at_most("100 at once / one", many[0] / one[0], 1.1, f"{many[0]:.0f} ms of {path}, {many[1]:.0f} ms CPU")
        self.row("  memory", f"{many[2]:.1f} MB", "≤ 128 MB", many[2] <= 128)

    def tokens(self):
        _, counts = self.measure("ours", 1, LONG, 1)
        self.at_most("sent in 10 turns / outputs whole", counts["sent"] / counts["whole"], 0.4,
                     f"{counts['sent'] // 1000} of {counts['whole'] // 1000} KB")

    def print(self):
        rounds = f"{ROUNDS} (one), {max(1, ROUNDS // 2)} (twenty) and {min(3, ROUNDS)} (100) processes"
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
              f"openai-agents {version('openai-agents')}; {rounds}\n")
        widths = [max(len(row[column]) for row in self.rows) for column in range(3)]
        for row in self.rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths)]
            print("  ".join([*cells, row[3]]).rstrip())


def main():
    servers = Servers()
    try:
        bench = Bench(servers)
        bench.one_and_twenty()
        bench.hundred()
        bench.tokens()
        bench.print()
    finally:
        servers.process.kill()
        servers.process.wait()


main()
