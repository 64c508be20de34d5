#!/usr/bin/env python3
"""Prints what became of the changes of a run of `cargo mutants`, and fails where one went unnoticed that is not argued.

    python3 tests/mutants/survivors.py target/mutants/mutants.out

Changes that do not build count as nothing. One that no test noticed has to be in argued.txt, with why that is right.
"""

import re
import sys
from collections import Counter
from pathlib import Path

ARGUED = Path(__file__).resolve().parent / "argued.txt"
# Of the changes that build, at least so many of a hundred have to be noticed.
LEAST = 95


def changes(out, how):
    """The changes that went so, without their lines and columns, which move."""
    path = out / f"{how}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [re.sub(r"^([^:]+):\d+:\d+: ", r"\1: ", line) for line in lines]


def crate(change):
    return "/".join(change.split("/")[:2])


def main():
    (out,) = map(Path, sys.argv[1:])
    argued = {}
    for line in ARGUED.read_text().splitlines():
        if line and not line.startswith("#"):
            change, _, why = line.partition("\t")
            if not why:
                sys.exit(f"{ARGUED.name}: no reason is given for {change}")
            argued[change] = why
    caught, missed = changes(out, "caught") + changes(out, "timeout"), changes(out, "missed")
    unnoticed = [change for change in missed if change not in argued]
    columns = {
        "caught": Counter(map(crate, caught)),
        "argued": Counter(crate(change) for change in missed if change in argued),
        "unnoticed": Counter(map(crate, unnoticed)),
        "do not build": Counter(map(crate, changes(out, "unviable"))),
    }
    print(f"{'':24}" + "".join(f"{name:>14}" for name in columns))
    for of in sorted(set().union(*columns.values())):
        print(f"{of:24}" + "".join(f"{column[of]:>14}" for column in columns.values()))
    print(f"{'all':24}" + "".join(f"{sum(column.values()):>14}" for column in columns.values()))
    for change in missed:
        print(f"{'ARGUED  ' if change in argued else 'UNNOTICED'} {change}" + (f"\n          {argued[change]}" if change in argued else ""))
    viable = len(caught) + len(missed)
    if not viable:
        sys.exit("no change was tried")
    share = 100 * len(caught) / viable
    print(f"\n{viable} changes, {share:.1f} % caught")
    if unnoticed or share < LEAST:
        sys.exit(f"{len(unnoticed)} went unnoticed and are not argued; {LEAST} % have to be caught")


main()
