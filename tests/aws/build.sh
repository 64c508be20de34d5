#!/usr/bin/env bash
# Builds the functions' zips as they are deployed: target/lambda/sentinel-<function>/bootstrap.zip. For x86_64, or with
# `build.sh arm64` for what the template deploys by default. `tests/setup.sh aws` installs cargo-lambda.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

bench=target/testbench/aws/bin
if [ ! -x "$bench/cargo-lambda" ]; then
  printf '%s is not there: run tests/setup.sh aws\n' "$bench/cargo-lambda" >&2
  exit 1
fi
case "${1-x86_64}" in
  x86_64) target=--x86-64 ;;
  arm64) target=--arm64 ;;
  *) printf 'usage: tests/aws/build.sh [x86_64|arm64]\n' >&2; exit 2 ;;
esac

# At a fixed address: 43,000 to 74,000 pointers less are to be filled in at each start, in memory of its own.
export RUSTFLAGS="-C relocation-model=static"

# Zig, which links for the C library of Amazon Linux, is in the same folder. The target is not looked up with rustup,
# which would go to the network.
PATH="$PWD/$bench:$PATH" cargo lambda build --profile deploy "$target" --skip-target-check --locked --output-format zip --include infra/sentinel.yaml --include infra/aws-roots.pem --include prompts \
  --package sentinel-ingest --package sentinel-worker --package sentinel-sweeper --package sentinel-watcher

for zip in target/lambda/sentinel-*/bootstrap.zip; do
  printf '%s: %s bytes\n' "$zip" "$(stat --format=%s "$zip")"
done
