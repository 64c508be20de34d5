#!/usr/bin/env bash
# Packs the functions of all architectures, and writes dist/SHA256SUMS over everything that a release has.
#
#     bash infra/release/checksums.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
python3 infra/release/template.py dist/sentinel-template.yaml
# In the order of their names, with no time and no owner: the same zips give the same file.
tar -C dist --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - "sentinel-$version" | gzip -n > "dist/sentinel-$version-functions.tar.gz"
cd dist
find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS
cat SHA256SUMS
