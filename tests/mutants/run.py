#!/usr/bin/env python3
"""Shows that the tests notice: makes each change of this folder in a throw-away copy and runs the tests that have to fail.

    python3 tests/mutants/run.py              all changes
    python3 tests/mutants/run.py NAME...      these
    python3 tests/mutants/run.py --whole ...  with every test of the crate, to see which others notice

A change is a file NAME.patch: lines that say what it does (`What:`), to which package (`Package:`) and which tests have to
fail with it (`Test:`, several with commas), then the patch. Each breaks something that users rely on and once went
through every test of its crate. Where one does not apply any more, the code has moved: find where the rule stands now.

The copy is target/mutants/copy, with a target folder of its own that is kept from run to run.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COPY = ROOT / "target" / "mutants" / "copy"
# cargo-nextest's own: tests failed, or the build did.
FAILED, NOT_BUILT = 100, 101


def read(path):
    """A change: what its head says."""
    head = {}
    for line in path.read_text().splitlines():
        if line.startswith("diff "):
            break
        name, _, value = line.partition(": ")
        head[name] = value.strip()
    missing = {"What", "Package", "Test"} - head.keys()
    if missing:
        sys.exit(f"{path.name}: its head does not say {', '.join(sorted(missing))}")
    return {
        "name": path.stem,
        "path": path,
        "what": head["What"],
        "package": head["Package"],
        "tests": [test.strip() for test in head["Test"].split(",")],
    }


def copy():
    """Makes the copy what the working folder is. What did not change keeps its time, so that it is not built again."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    files = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    COPY.mkdir(parents=True, exist_ok=True)
    for name in files:
        source, target = ROOT / name, COPY / name
        if not target.exists() or source.read_bytes() != target.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for folder, folders, names in os.walk(COPY):
        folders[:] = [name for name in folders if Path(folder, name) not in (COPY / "target", COPY / ".git")]
        for name in names:
            path = Path(folder, name)
            if str(path.relative_to(COPY)) not in files:
                path.unlink()
    # A repository of its own: patches are applied relative to it.
    subprocess.run(["git", "init", "--quiet"], cwd=COPY, check=True)


def nextest(package, tests):
    """Runs tests of a package; gives nextest's exit code and the tests that failed."""
    command = ["cargo", "nextest", "run", "--locked", "--package", package, "--no-fail-fast", "--color", "never"]
    if tests:
        command += ["-E", " | ".join(f"test(/(^|::){test}$/)" for test in tests)]
    env = os.environ | {"CARGO_TARGET_DIR": str(COPY / "target"), "INSTA_UPDATE": "no"}
    ended = subprocess.run(command, cwd=COPY, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    failed = re.findall(r"^\s*(?:FAIL|TIMEOUT|SIGABRT)\s+\[[^]]*\]\s+(?:\([^)]*\)\s+)?\S+\s+(\S+)", ended.stdout, re.M)
    return ended.returncode, list(dict.fromkeys(failed)), ended.stdout


def apply(change, *how):
    command = ["git", "apply", *how, str(change["path"])]
    return subprocess.run(command, cwd=COPY, capture_output=True, text=True)


def main():
    wanted = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    whole = "--whole" in sys.argv
    changes = [read(path) for path in sorted(HERE.glob("*.patch"))]
    unknown = set(wanted) - {change["name"] for change in changes}
    if unknown:
        sys.exit(f"no such change: {', '.join(sorted(unknown))}; there are: {', '.join(c['name'] for c in changes)}")
    changes = sorted((c for c in changes if not wanted or c["name"] in wanted), key=lambda c: c["package"])
    copy()
    bad = []
    for package in dict.fromkeys(change["package"] for change in changes):
        # What fails without a change shows nothing with one; and a test that is not there never fails.
        tests = sorted({test for change in changes if change["package"] == package for test in change["tests"]})
        code, failed, output = nextest(package, tests)
        ran = re.search(r"(\d+) tests? run", output)
        if code or not ran or int(ran[1]) < len(tests):
            print(output[-4000:])
            sys.exit(f"{package}: these tests are not green before anything is changed: {', '.join(failed or tests)}")
    width = max(len(change["name"]) for change in changes)
    for change in changes:
        applied = apply(change)
        if applied.returncode:
            said, good = f"does not apply any more: {applied.stderr.strip().splitlines()[0]}", False
        else:
            code, failed, output = nextest(change["package"], [] if whole else change["tests"])
            assert apply(change, "--reverse").returncode == 0
            if code == FAILED:
                said, good = f"caught by {', '.join(failed)}", True
            elif code == NOT_BUILT:
                said, good = f"does not build: {(re.findall(r'^error.*', output, re.M) or ['?'])[0]}", False
            else:
                said, good = f"NOT CAUGHT (nextest ended with {code})", False
        print(f"{change['name']:{width}}  {change['package']:22} {said}", flush=True)
        if not good:
            bad.append(change["name"])
    print(f"\n{len(changes)} changes, {len(changes) - len(bad)} caught")
    if bad:
        sys.exit(f"not caught: {', '.join(bad)}")


main()
