#!/usr/bin/env bash
# Prints what shows that no alert is lost and none is paid for twice: the states of the lifecycle that were explored,
# and for each design that is known to be wrong the shortest way to the promise that it breaks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s\n' "$*"; }

# Runs tests of a package and keeps what they printed.
proof() { cargo test --locked --quiet "$@" -- --nocapture 2>&1 | grep -vE '^(running|test result|$)'; }

step "model: every state of each world, and every wrong design"
proof -p sentinel-core --test model
