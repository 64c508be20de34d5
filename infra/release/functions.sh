#!/usr/bin/env bash
# Puts the functions' zips and their bills of materials, as infra/build.sh left them, where a release has them:
# dist/sentinel-VERSION/ARCHITECTURE/sentinel-FUNCTION.zip and .bom.json.
#
#     bash infra/release/functions.sh arm64|x86_64
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
case "${1-}" in arm64 | x86_64) ;; *) printf 'usage: infra/release/functions.sh arm64|x86_64\n' >&2; exit 2 ;; esac
built=$(cat target/lambda/parameters)
if [ "$built" != "Architecture=$1" ]; then
  printf 'release: target/lambda was built for %s, not for %s\n' "${built#*=}" "$1" >&2
  exit 1
fi
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
folder=dist/sentinel-$version/$1
mkdir -p "$folder"
for function in ingest worker sweeper watcher; do
  cp "target/lambda/sentinel-$function/bootstrap.zip" "$folder/sentinel-$function.zip"
  cp "target/lambda/sentinel-$function/bom.json" "$folder/sentinel-$function.bom.json"
done
