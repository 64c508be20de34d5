"""What 1,000 connections that never finish cost good webhooks: python3 connections.py SENTINEL [CONNECTIONS]

Prints the percentiles of webhooks that open an incident each, before and beside the slow connections, and the ratio of
the two 99th percentiles. A slow connection sends a byte of its head every few seconds and comes again when it is closed.
"""
import http.client
import json
import pathlib
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time

WEBHOOKS = 1000
TOKEN = "the-token-of-alertmanager"
CONFIG = f"""
ingest: {{bearer: [{TOKEN}]}}
resources: [{{name: any}}]
incident-cards: [{{name: any, resource: any, wait: 1h, dedupe-by: alert, prompt: Find out why., sinks: [log]}}]
"""


def start(program: str, folder: pathlib.Path) -> tuple[subprocess.Popen, int]:
    (folder / "config.yaml").write_text(CONFIG)
    process = subprocess.Popen(
        [program, "up", "--json", "--listen", "127.0.0.1:0"],
        cwd=folder, stdout=subprocess.PIPE, stderr=(folder / "log").open("wb"), text=True, env={},
    )
    said = json.loads(process.stdout.readline())
    return process, int(said["listening"].rsplit(":", 1)[1])


def webhook(port: int, name: str) -> float:
    """Posts one alert on a connection of its own, as Alertmanager does after its idle one was closed."""
    body = json.dumps({"alerts": [{"status": "firing", "labels": {"alertname": "Trouble", "instance": name}}]})
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/webhook/alertmanager", body, {"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    text = answer.read()
    took = time.perf_counter() - begun
    connection.close()
    if answer.status != 200 or b'"accepted":1' not in text:
        raise SystemExit(f"{answer.status}: {text!r}")
    return took


def measure(port: int, what: str) -> float:
    times = sorted(webhook(port, f"{what}-{n}") for n in range(WEBHOOKS))
    of = lambda p: times[min(len(times) - 1, int(len(times) * p / 100))] * 1000
    print(f"{what:>28}: p50 {of(50):7.2f} ms   p99 {of(99):7.2f} ms   max {times[-1] * 1000:7.2f} ms", flush=True)
    return of(99)


def slow(port: int, count: int, stop: threading.Event) -> None:
    """Keeps `count` connections unfinished: those that were closed are opened again, a few at a time."""
    selector, alive = selectors.DefaultSelector(), set()
    fed = time.monotonic()
    while not stop.is_set():
        for _ in range(min(50, count - len(alive))):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(b"POST /webhook/alertmanager HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
            alive.add(connection)
        for key, _ in selector.select(timeout=0.05):
            # It was closed: for another one, or after its time.
            selector.unregister(key.fileobj)
            alive.discard(key.fileobj)
            key.fileobj.close()
        if time.monotonic() - fed > 3:
            fed = time.monotonic()
            for connection in alive:
                try:
                    connection.send(b"x")
                except OSError:
                    pass
    for connection in alive:
        connection.close()


def main() -> None:
    program, count = str(pathlib.Path(sys.argv[1]).resolve()), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory() as folder:
        process, port = start(program, pathlib.Path(folder))
        stop = threading.Event()
        try:
            measure(port, "warming up")
            usual = measure(port, "no other connection")
            attack = threading.Thread(target=slow, args=(port, count, stop))
            attack.start()
            time.sleep(2)
            beside = measure(port, f"beside {count} slow ones")
            print(f"ratio of the two p99: {beside / usual:.2f}")
        finally:
            stop.set()
            process.terminate()
            process.wait(30)


main()
