#!/usr/bin/env bash
# Runs what a release runs, as far as it can without the other machines: all workflows are read by actionlint, the release's
# template by cfn-lint, and the scripts work on a stand-in for the zips. Run by tests/run.sh, after tests/setup.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for workflow in .github/workflows/*.yml; do node tests/aws/workflow.mjs "$workflow"; done
# Each step of ours is a script that is there.
for script in $(grep -ohE 'bash [.a-z/]+' .github/workflows/*.yml | cut -d' ' -f2 | sort -u); do bash -n "$script"; done
# The steps of tests/extra.sh that are run each week are some of those that there are.
for step in $(sed -nE 's/.*bash tests\/extra\.sh ([a-z ]+)$/\1/p' .github/workflows/ci.yml); do
  bash tests/extra.sh --list | cut -d' ' -f1 | grep -x "$step" > /dev/null
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 infra/release/template.py "$work/template.yaml"
target/testbench/venv/bin/cfn-lint "$work/template.yaml"
! grep -n '\.\./target/' "$work/template.yaml"

# The scripts find the folder by their own place: a copy of them works on a folder of its own.
mkdir -p "$work/root/infra"
cp -r infra/release infra/template.yaml "$work/root/infra/"
cp Cargo.toml "$work/root/"
cd "$work/root"
for architecture in arm64 x86_64; do
  for function in ingest worker sweeper watcher; do
    mkdir -p "target/lambda/sentinel-$function"
    printf '%s of %s' "$function" "$architecture" > "target/lambda/sentinel-$function/bootstrap.zip"
    printf '{}' > "target/lambda/sentinel-$function/bom.json"
  done
  printf 'Architecture=%s\n' "$architecture" > target/lambda/parameters
  bash infra/release/functions.sh "$architecture"
done
if bash infra/release/functions.sh arm64 2> said; then printf 'zips of another processor were taken\n' >&2; exit 1; fi
grep -q 'was built for x86_64, not for arm64' said
bash infra/release/checksums.sh > first
tar -tzf dist/sentinel-*-functions.tar.gz | sort > packed
for architecture in arm64 x86_64; do
  for function in ingest worker sweeper watcher; do grep -q "/$architecture/sentinel-$function.zip$" packed; done
done
(cd dist && sha256sum --check --quiet SHA256SUMS)
bash infra/release/checksums.sh | diff - first
# The template takes a zip from where the release has it.
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
grep -q "Default: $version" dist/sentinel-template.yaml
grep -qF 'sentinel-${CodeVersion}/${Architecture}/sentinel-ingest.zip' dist/sentinel-template.yaml
grep -q "^sentinel-$version/arm64/sentinel-ingest.zip$" packed
printf 'release: %s files, the same ones twice\n' "$(wc -l < first)"
