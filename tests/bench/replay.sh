#!/usr/bin/env bash
# Whole-process figures of `sentinel replay` of an example in release: wall time from start to exit, and the largest
# resident memory. Prints the minimum, median and maximum of 21 runs after a warm-up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -n "${SENTINEL_BENCH_NO_BUILD:-}" ] || cargo build --release --locked --quiet
python3 - "$@" <<'PYTHON'
import os, statistics, sys, time

RUNS = 21
EVENT = sys.argv[1] if len(sys.argv) > 1 else "events/alertmanager/kube-pod-not-ready.json"
COMMAND = ["target/release/sentinel", "replay", EVENT]
# Without a key: the recorded example run, so that no model's time is measured.
ENV = {k: v for k, v in os.environ.items() if k not in ("OPENAI_API_KEY", "SENTINEL_CONFIG")}

def once():
    quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0) for fd in (1, 2)]
    began = time.perf_counter()
    pid = os.posix_spawn(COMMAND[0], COMMAND, ENV, file_actions=quiet)
    _, status, used = os.wait4(pid, 0)
    took = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(COMMAND)} failed")
    return took * 1000, used.ru_maxrss / 1024, (used.ru_utime + used.ru_stime) * 1000

once()
rows = [once() for _ in range(RUNS)]
print(f"{' '.join(COMMAND)}: {RUNS} runs")
print(f"{'':14}{'min':>10}{'median':>10}{'max':>10}")
for name, unit, column in (("wall", "ms", 0), ("memory", "MiB", 1), ("cpu", "ms", 2)):
    values = [row[column] for row in rows]
    print(f"{name + ' ' + unit:14}{min(values):10.1f}{statistics.median(values):10.1f}{max(values):10.1f}")
PYTHON
