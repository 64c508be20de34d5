#!/usr/bin/env bash
# Attacks each place that works on what others send (docs/security.md, "Bounds") on a running `up`, and prints the worst
# answer of /healthz meanwhile and after `kill -9` and a restart. PROFILE=release builds the program as it is shipped.
# SENTINEL=PROGRAM takes one that is built; arguments name the attacks to run.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${PROFILE:-dev}
if [ -z "${SENTINEL-}" ]; then
  cargo build --package sentinel-cli --locked --profile "$profile"
  folder=$([ "$profile" = dev ] && echo debug || echo "$profile")
  SENTINEL=${CARGO_TARGET_DIR:-target}/$folder/sentinel
fi
exec python3 tests/bench/freeze.py "$SENTINEL" "$@"
