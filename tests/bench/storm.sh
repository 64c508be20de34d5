#!/usr/bin/env bash
# The storm and the intake at their full size. PROFILE=release builds the program as it is shipped. See README.md.
#
#   tests/bench/storm.sh            10,000 alerts in 200 groups; 1,000 distinct webhooks and 10,000 repeats
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${PROFILE:-dev}
cargo build --workspace --locked --profile "$profile"
SENTINEL_STORM_ALERTS=${SENTINEL_STORM_ALERTS:-10000} SENTINEL_STORM_GROUPS=${SENTINEL_STORM_GROUPS:-200} \
SENTINEL_INTAKE_DISTINCT=${SENTINEL_INTAKE_DISTINCT:-1000} SENTINEL_INTAKE_REPEATS=${SENTINEL_INTAKE_REPEATS:-10000} \
  cargo test -p sentinel-tests --test storm --locked --profile "$profile" -- --nocapture --test-threads 1 \
  | grep -E '^(storm|intake):|^test |panicked|test result'
