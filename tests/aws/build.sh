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
  x86_64) machine=x86_64 flag=--x86-64 ;;
  arm64) machine=aarch64 flag=--arm64 ;;
  *) printf 'usage: tests/aws/build.sh [x86_64|arm64]\n' >&2; exit 2 ;;
esac

# Static programs, as .cargo/config.toml says. Where Rust's own parts for that cannot be had, dynamic ones, which do the same
# and start more slowly.
target=$machine-unknown-linux-musl
if rustup target list --installed | grep -qx "$target" || rustup target add "$target"; then
  for_target=(--target "$target")
else
  printf 'build: %s cannot be installed: building for the C library of Amazon Linux instead\n' "$target" >&2
  for_target=("$flag")
fi

# Zig, which links, is in the same folder. cargo-lambda itself does not look for the target: it would go to the network.
PATH="$PWD/$bench:$PATH" cargo lambda build --profile deploy "${for_target[@]}" --skip-target-check --locked --output-format zip \
  --include infra/sentinel.yaml --include infra/aws-roots.pem --include prompts \
  --package sentinel-ingest --package sentinel-worker --package sentinel-sweeper --package sentinel-watcher

for zip in target/lambda/sentinel-*/bootstrap.zip; do
  printf '%s: %s bytes\n' "$zip" "$(stat --format=%s "$zip")"
done
