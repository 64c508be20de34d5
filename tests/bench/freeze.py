"""Attacks a running `sentinel up` and measures how long it takes to answer: freeze.py PROGRAM [ATTACK…]"""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INCIDENTS, SECONDS, GOAL_MS = 6, 4, 100
OBJECT = {"type": "object"}
REPORT = {"verdict": "inconclusive", "title": "t", "summary": "s", "hypotheses": [], "ruled_out": [], "gaps": [], "next_steps": []}


def doubled(levels, step):
    defs = {f"d{n}": step({"$ref": f"#/$defs/d{n + 1}"}) for n in range(levels)}
    return {"type": "object", "$defs": {**defs, f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def by_property(next_one):
    branch = {"properties": {"x": next_one}, "required": ["x"]}
    return {"anyOf": [branch, branch]}


def nested(levels):
    value = 1
    for _ in range(levels):
        value = {"x": value}
    return value


def text(words):
    return {"content": [{"type": "text", "text": words}]}


def structured(value):
    return {"content": [], "structuredContent": value}


def tool(name="look", **more):
    return {"name": name, "description": "d", "inputSchema": OBJECT, **more}


def read(pattern):
    return ("read_evidence", {"id": "E1", "pattern": pattern, "lines": None})


def report(quotes):
    cited = [{"id": "E1", "quote": quote} for quote in quotes]
    return ("submit_report", {**REPORT, "ruled_out": [{"statement": "s", "evidence": cited}]})


LINE = "A" * (256 << 10)
LOOK = [("fake__look", {})]
# Of each attack: the server's tools, what a call gives, the turns of the model before its report, the alerts of one webhook.
ATTACKS = {
    "nothing": ([tool()], text("all is well"), [LOOK], 1),
    "output schema, doubled by level": ([tool(outputSchema=doubled(40, by_property))], structured(nested(40)), [LOOK], 1),
    "output schema, doubled in place": (
        [tool(outputSchema=doubled(40, lambda n: {"anyOf": [n, n]}))], structured(nested(2)), [LOOK], 1),
    "output schema, most that is allowed": (
        [tool(outputSchema={"properties": {"l": {"items": {"pattern": "^(a|b)*c?$", "minLength": 1}}}})],
        structured({"l": ["ab" * 200] * 9_000}), [LOOK], 1),
    "input schema, patterns": (
        [tool(inputSchema={**OBJECT, "patternProperties": {"(a|b)*c{1,900}%d" % n: True for n in range(40)}})],
        text("x"), [LOOK], 1),
    "read_evidence, quadratic": ([tool()], text(LINE), [LOOK, [read(".*[^A-Z]|[A-Z]")] * 16], 1),
    "read_evidence, large automata": ([tool()], text(LINE), [LOOK, [read("(a|b|ab){1,%d}9" % (400 + n)) for n in range(16)]], 1),
    "thousands of calls": ([tool()], text(LINE), [LOOK, [read(".*[^A-Z]|[A-Z]")] * 3000], 1),
    "quotes, nearly everywhere": (
        [tool()], text("12 " * 80_000), [LOOK, [report(["12 " * 1300 + "1"] * 30)]], 1),
    "quotes, thousands": ([tool()], text(LINE), [LOOK, [report(["A" * 12 + "b"] * 2500)]], 1),
    "output, 8 MB of secrets": ([tool()], text("password: hunter2 token=abcdef123456\n" * 200_000), [LOOK], 1),
    "output, one word of 8 MB": ([tool()], text("a" * (8 << 20)), [LOOK], 1),
    "tools, 4 MB": ([tool(f"t{n}", title="x" * 4000) for n in range(950)] + [tool()], text("x"), [LOOK], 1),
    "a turn of 9 MB": ([tool()], text("x"), [LOOK, [report(["x" * (9 << 20)])]], 1),
    "webhooks of 20,000 alerts": ([tool()], text("x"), [LOOK], 20_000),
}


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["content-length"] or 0)) or b"{}")

    def answer(self, value, status=200, **headers):
        sent = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, words in {"content-type": "application/json", "content-length": str(len(sent)), **headers}.items():
            self.send_header(name, words)
        self.end_headers()
        self.wfile.write(sent)


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Whoever asked was killed."""


def servers(tools, gives, turns):
    class Mcp(Quiet):
        def do_GET(self):
            self.answer(None, 405)

        do_DELETE = do_GET

        def do_POST(self):
            message = self.body()
            if "id" not in message:
                return self.answer(None, 202)
            results = {
                "initialize": {
                    "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}},
                "tools/list": {"tools": tools}, "tools/call": gives, "ping": {}}
            result = results.get(message["method"])
            end = {"result": result} if result is not None else {"error": {"code": -32601, "message": "no such method"}}
            self.answer({"jsonrpc": "2.0", "id": message["id"], **end})

    class Model(Quiet):
        def do_POST(self):
            request = self.body()
            made = sum(item.get("type") == "function_call_output" for item in request["input"])
            turn = 0
            while turn < len(turns) and made >= len(turns[turn]):
                made -= len(turns[turn])
                turn += 1
            must = request.get("tool_choice") not in (None, "auto", "required")
            calls = [("submit_report", REPORT)] if turn >= len(turns) or must else turns[turn]
            items = [
                {"type": "function_call", "id": f"fc_{turn}_{n}", "call_id": f"call_{turn}_{n}", "name": name,
                 "arguments": json.dumps(arguments), "status": "completed"}
                for n, (name, arguments) in enumerate(calls)]
            usage = {
                "input_tokens": 9, "output_tokens": 9, "total_tokens": 18, "output_tokens_details": {"reasoning_tokens": 0},
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}}
            self.answer({
                "id": "r", "object": "response", "created_at": 1, "status": "completed", "error": None, "metadata": {},
                "incomplete_details": None, "instructions": None, "model": "m", "output": items, "tools": [], "usage": usage,
                "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto"})

    started = [Server(("127.0.0.1", 0), handler) for handler in (Mcp, Model)]
    for server in started:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return started


def start(program, home):
    command = [program, "up", "--json", "--listen", "127.0.0.1:0", "--config", "config.yaml"]
    child = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in child.stdout:
        if "listening" in line:
            threading.Thread(target=child.stdout.read, daemon=True).start()
            return child, json.loads(line)["listening"]
    sys.exit(f"{program} did not start")


def ask(url, body=None):
    request = urllib.request.Request(url, body and json.dumps(body).encode(), {"content-type": "application/json"})
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
    return (time.monotonic() - began) * 1000


def watch(url, seconds):
    """The worst answer of /healthz and of a webhook, in milliseconds."""
    until, worst, webhook = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        worst = max(worst, ask(f"{url}/healthz"))
        webhook = max(webhook, ask(f"{url}/webhook/alertmanager", {"version": "4", "groupLabels": {}, "alerts": []}))
        time.sleep(0.01)
    return worst, webhook


def watched(url):
    """The same, measured by a process of its own: this one is busy playing the servers."""
    ended = subprocess.run([sys.executable, __file__, "--watch", url], stdout=subprocess.PIPE, check=True, text=True)
    return [float(ms) for ms in ended.stdout.split()]


def alerts(n, each):
    def one(i):
        labels = {"alertname": "A", "instance": f"i{n}", "pod": f"p{i}"}
        return {"status": "firing", "labels": labels, "annotations": {}, "startsAt": "2026-01-05T08:00:00Z"}
    return {"version": "4", "groupLabels": {"alertname": "A", "instance": f"i{n}"}, "alerts": [one(i) for i in range(each)]}


def attack(program, tools, gives, turns, each):
    mcp, model = servers(tools, gives, turns)
    with tempfile.TemporaryDirectory() as home:
        pathlib.Path(home, "config.yaml").write_text(f"""
openai: {{model: m, api-key: k-test-key, base-url: "http://127.0.0.1:{model.server_port}/v1"}}
network: {{allow-insecure-hosts: [127.0.0.1], allow-private-hosts: [127.0.0.1]}}
resources: [{{name: any}}]
incident-cards:
- {{name: any, resource: any, prompt: Look into it, tools: [fake.look], sinks: [log], evidence: [{{tool: fake.look}}]}}
mcp-servers: [{{name: fake, server-url: "http://127.0.0.1:{mcp.server_port}/mcp"}}]
""")
        child, url = start(program, home)
        senders = [threading.Thread(target=ask, args=(f"{url}/webhook/alertmanager", alerts(n, each))) for n in range(INCIDENTS)]
        for sender in senders:
            sender.start()
        before = watched(url)
        for sender in senders:
            sender.join()
        child.kill()
        child.wait()
        began = time.monotonic()
        child, url = start(program, home)
        ask(f"{url}/healthz")
        again = (time.monotonic() - began) * 1000
        after = watched(url)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with urllib.request.urlopen(f"{url}/api/incidents", timeout=60) as answer:
                states = [incident["state"] for incident in json.load(answer)]
            if all(state in ("done", "failed") for state in states):
                break
            time.sleep(0.1)
        ended = time.monotonic()
        child.send_signal(signal.SIGTERM)
        child.wait(60)
        stopped = (time.monotonic() - ended) * 1000
    for server in (mcp, model):
        server.shutdown()
        server.server_close()
    return [before[0], after[0], max(before[1], after[1]), again, stopped], states


def main():
    program, *names = sys.argv[1:]
    if program == "--watch":
        return print(*watch(names[0], SECONDS))
    program = str(pathlib.Path(program).resolve())
    print(f"milliseconds; {INCIDENTS} incidents at once, watched for {SECONDS} s before kill -9 and {SECONDS} s after the restart\n")
    print("| attack | worst /healthz | after restart | worst webhook | restart | SIGTERM | ends |\n|---|---|---|---|---|---|---|")
    worst = 0
    for name in names or ATTACKS:
        times, states = attack(program, *ATTACKS[name])
        worst = max(worst, times[0], times[1])
        ends = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        print(f"| {name} | " + " | ".join(f"{ms:.0f}" for ms in times) + f" | {ends} |", flush=True)
    print(f"\nworst /healthz: {worst:.0f} ms (goal {GOAL_MS} ms)")
    sys.exit(worst > GOAL_MS)


main()
