#!/usr/bin/env bash
# Measures what an investigation costs besides its model and its tools, beside the OpenAI Agents SDK for Python, and
# prints a table. tests/bench/README.md says how.
#   SENTINEL_BENCH_NO_BUILD=1   takes target/release and the Python packages as they are
#   SENTINEL_BENCH_QUICK=1      fewer rounds: to see that it runs, not for figures
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=target/testbench/python-agents
if [ -z "${SENTINEL_BENCH_NO_BUILD:-}" ]; then
  cargo build --release --locked --quiet -p sentinel-bench
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    --requirement tests/bench/python/agents-requirements.txt
fi
exec "$venv/bin/python" tests/bench/agents.py "$@"
