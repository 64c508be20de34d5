#!/usr/bin/env bash
# Plays N executions of every fuzz target, from its seeds and what earlier runs found, and prints what came of each.
#
#     bash tests/fuzz/run.sh N [SECONDS [TARGET…]]     at most SECONDS for each target; 0: as long as it takes
#     bash tests/fuzz/run.sh --keep                    adds to the seeds what reaches code that they do not: a few of each target
#
# `tests/setup.sh extra` installs cargo-fuzz. What is found lies in target/fuzz/corpus, what fails in target/fuzz/artifacts.
# An input that takes more than five seconds, or more than 2 GB, has failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/target/testbench/extra/bin:$PATH"
out=$PWD/target/fuzz
# The largest input that is worth keeping, in bytes, and how many of one target are: the largest of those, which reach most.
SMALL=1024
FEW=12

# The same versions as everywhere else.
cp Cargo.lock tests/fuzz/Cargo.lock
# Nothing here may be unsafe, so there is nothing for a sanitizer to see.
cargo +nightly fuzz build --fuzz-dir tests/fuzz --sanitizer none --target-dir "$out" >&2
programs=$(dirname "$(find "$out" -path '*/release/webhook' -type f | head -n 1)")
mapfile -t all < <(sed -n 's/^name = "\(.*\)"$/\1/p' tests/fuzz/Cargo.toml | grep -vx sentinel-fuzz)

play() { # target, words of libFuzzer
  local target=$1; shift
  mkdir -p "$out/corpus/$target" "$out/artifacts/$target" "tests/fuzz/seeds/$target"
  "$programs/$target" -timeout=5 -rss_limit_mb=2048 -max_len=8192 "-artifact_prefix=$out/artifacts/$target/" "$@" 2>&1
}

if [ "${1-}" = --keep ]; then
  for target in "${all[@]}"; do
    small=$(mktemp -d)
    find "$out/corpus/$target" -type f -size "-${SMALL}c" -exec cp -t "$small" {} + 2> /dev/null || true
    play "$target" -set_cover_merge=1 "tests/fuzz/seeds/$target" "$small" > "$out/$target.log"
    rm -r "$small"
    # What was found is called by its digest; what was written by hand stays.
    find "tests/fuzz/seeds/$target" -type f -printf '%s %p\n' | sort -rn | sed 's/^[0-9]* //' |
      grep -E '/[0-9a-f]{40}$' | tail -n "+$((FEW + 1))" | xargs -r rm
    printf '%-16s %s seeds\n' "$target" "$(find "tests/fuzz/seeds/$target" -type f | wc -l)"
  done
  exit 0
fi

runs=${1:?how many executions of each target}
seconds=${2-0}
targets=("${@:3}")
[ "${#targets[@]}" -gt 0 ] || targets=("${all[@]}")
total=0 failed=0
printf '%-16s %12s %10s %8s  %s\n' target executions 'a second' seconds result
for target in "${targets[@]}"; do
  result=ok started=$SECONDS
  play "$target" "-runs=$runs" "-max_total_time=$seconds" -print_final_stats=1 \
    "$out/corpus/$target" "tests/fuzz/seeds/$target" > "$out/$target.log" || result="FAILED, see $out/$target.log"
  executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$target.log")
  speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$out/$target.log")
  [ "$result" = ok ] || failed=$((failed + 1))
  total=$((total + ${executed:-0}))
  printf '%-16s %12s %10s %8s  %s\n' "$target" "${executed:-?}" "${speed:-?}" "$((SECONDS - started))" "$result"
done
printf '%-16s %12s %29s\n' total "$total" "$failed failed"
[ "$failed" -eq 0 ]
