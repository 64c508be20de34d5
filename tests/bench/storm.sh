#!/usr/bin/env bash
# The storm and the intake at their full size. PROFILE=release builds the program as it is shipped. See README.md.
#
#   tests/bench/storm.sh            10,000 alerts in 200 groups; 1,000 distinct webhooks and 10,000 repeats
#   tests/bench/storm.sh aws        1,000 alerts in 20 groups through the functions as they are deployed, on a local AWS
#                                   (tests/setup.sh aws, infra/build.sh)
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${PROFILE:-dev}
cargo build --workspace --locked --profile "$profile"
if [ "${1-}" = aws ]; then
  cargo test --workspace --test aws --locked --profile "$profile" -- --nocapture --ignored storm \
    | grep -E '^storm:|^test |panicked|test result'
  exit
fi
SENTINEL_STORM_ALERTS=${SENTINEL_STORM_ALERTS:-10000} SENTINEL_STORM_GROUPS=${SENTINEL_STORM_GROUPS:-200} \
SENTINEL_INTAKE_DISTINCT=${SENTINEL_INTAKE_DISTINCT:-1000} SENTINEL_INTAKE_REPEATS=${SENTINEL_INTAKE_REPEATS:-10000} \
  cargo test --workspace --test storm --locked --profile "$profile" -- --nocapture --test-threads 1 \
  | grep -E '^(storm|intake):|^test |panicked|test result'
