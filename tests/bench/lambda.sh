#!/usr/bin/env bash
# Measures the Lambdas as real processes, and prints a table: their start, one alert, a duplicate, 500 alerts at once,
# each against what it cannot do without, and against the same in Python. tests/bench/README.md says how.
#   SENTINEL_BENCH_NO_BUILD=1   takes what is built and the Python packages as they are
#   SENTINEL_BENCH_QUICK=1      fewer rounds: to see that it runs, not for figures
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=target/testbench/python-bench
if [ -z "${SENTINEL_BENCH_NO_BUILD:-}" ]; then
  bash infra/build.sh x86_64
  # What they are measured against, in the same profile: a bare function as cargo-lambda builds it unless told otherwise,
  # and the bare and the least that are built as ours are.
  build() {
    PATH="$PWD/target/testbench/aws/bin:$PATH" cargo lambda build --profile deploy --skip-target-check --locked \
      --package sentinel-bench "$@"
  }
  build --x86-64 --bin bare --bin floor --bin stub
  build --target x86_64-unknown-linux-musl --bin bare --bin least --lambda-dir target/lambda-static
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    --requirement tests/bench/python/requirements.txt
fi
exec "$venv/bin/python" tests/bench/lambda.py "$@"
