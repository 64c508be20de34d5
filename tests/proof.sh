#!/usr/bin/env bash
# Prints what shows that no alert is lost and none is paid for twice: the states of the lifecycle that were explored,
# and for each design that is known to be wrong the shortest way to the promise that it breaks; then, on the real handlers,
# the faults at each call, the pairs of them, the random schedules, and the store's contract.
#
# More episodes: SENTINEL_EPISODES=10000000. Pairs of every kind of fault: SENTINEL_PAIR_KINDS=all. One seed again, with all
# that happened in it: SENTINEL_SEED=7 cargo test --workspace --test faults -- simulation::random --nocapture
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export SENTINEL_EPISODES=${SENTINEL_EPISODES:-100000} SENTINEL_PAIRS=${SENTINEL_PAIRS:-all}

step() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

# Runs a test program of the workspace and keeps what it printed. Built as the checks build it, so that nothing is built
# twice: what the cases go through is optimised there too.
proof() {
  local program=$1; shift
  cargo test --workspace --locked --quiet --test "$program" -- --nocapture "$@" 2>&1 | grep -vE '^(running|test result|$)'
}

step "model: every state of each world, and every wrong design"
proof model every_promise_is_kept_in every_wrong

step "handlers: single faults, pairs of faults, random schedules, bad input"
# One after the other, so that each has all processors.
proof faults --test-threads 1

step "store: one contract, in memory and in DynamoDB through the SDK"
cargo test --workspace --locked --quiet --test contract

step "done"
