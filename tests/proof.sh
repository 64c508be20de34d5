#!/usr/bin/env bash
# Prints what shows that no alert is lost and none is paid for twice: the states of the lifecycle that were explored,
# and for each design that is known to be wrong the shortest way to the promise that it breaks; then, on the real handlers,
# the faults at each call, the pairs of them, the random schedules, and the store's contract.
#
# More episodes: SENTINEL_EPISODES=10000000. Pairs of every kind of fault: SENTINEL_PAIR_KINDS=all. One seed again, with all
# that happened in it: SENTINEL_SEED=7 cargo test -p sentinel-testkit --test faults simulation::random -- --nocapture
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export SENTINEL_EPISODES=${SENTINEL_EPISODES:-100000}

step() { printf '\n== %s\n' "$*"; }

# Runs tests of a package and keeps what they printed.
proof() { cargo test --locked --quiet "$@" 2>&1 | grep -vE '^(running|test result|$)'; }

step "model: every state of each world, and every wrong design"
proof -p sentinel-core --test model -- --nocapture

step "handlers: single faults, pairs of faults, random schedules, bad input"
# With optimisation, because the cases are so many; one after the other, so that each has all processors.
proof --release -p sentinel-testkit --test faults -- --include-ignored --nocapture --test-threads 1

step "store: one contract, in memory and in DynamoDB through the SDK"
cargo test --locked --quiet -p sentinel-aws --test contract
