#!/usr/bin/env python3
"""Verifies a file that `sentinel audit export` wrote, by docs/audit.md alone: the standard library, none of Sentinel's code.

usage: verify.py FILE     ends with 0 where the record verifies, else with 1 and what is wrong
"""

import hashlib
import json
import sys

DOMAIN = b"sentinel-audit-1\n"


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def unique(pairs):
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise ValueError("a key twice")
    return dict(pairs)


def read(data):
    """The incident's id, its head and its children by (generation, name, intake); every line is as it was written."""
    lines = data.split(b"\n")
    if lines.pop() != b"":
        raise ValueError("the last line does not end")
    values = []
    for number, line in enumerate(lines, 1):
        value = json.loads(line.decode(), object_pairs_hook=unique)
        if canonical(value).encode() != line:
            raise ValueError(f"line {number} is not canonical")
        values.append(value)
    digest = values.pop()
    if list(digest) != ["sha256"] or digest["sha256"] != sha256(b"".join(line + b"\n" for line in lines[:-1])):
        raise ValueError("the last line is not the digest of those before it")
    first = values.pop(0)
    if first.get("format") != "sentinel-audit-1":
        raise ValueError("not this format")
    head = values.pop(0)["head"] if values and "head" in values[0] else None
    children, before = {}, None
    for value in values:
        child = value["child"]
        key = (child["gen"], child["name"], child.get("intake", False))
        if key in children:
            raise ValueError(f"{key} twice")
        children[key] = child["body"]
    return first["incident"], head, children


def verify(incident, head, children):
    problems = []
    if head is None:
        return ["there is no head"]
    if head["id"] != incident:
        problems.append("the head is another incident's")
    if not head.get("chain"):
        return problems + ["the head holds no entry"]
    texts = {}
    for (generation, name, _), body in children.items():
        if name.startswith("AUD#"):
            moved = json.loads(body)
            numbers = [json.loads(text)["n"] for text in moved]
            if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[-1] != int(name[4:]):
                problems.append(f"{name} does not hold what its name says")
            for text in moved:
                texts.setdefault(json.loads(text)["n"], set()).add(text)
    for text in head["chain"]:
        texts.setdefault(json.loads(text)["n"], set()).add(text)

    # Back from the head's last entry.
    text = head["chain"][-1]
    last = json.loads(text)
    bare = {key: value for key, value in head.items() if key != "chain"}
    if last["head"] != sha256(canonical(bare).encode()):
        problems.append("the head is not what its last entry says")
    chain = []
    while True:
        entry = json.loads(text)
        if canonical(entry) != text:
            problems.append(f"entry {entry['n']} is not canonical")
        chain.append((entry, text))
        if entry["n"] == 1:
            if entry["prev"] != "":
                problems.append("the first entry names one before it")
            break
        hashed = {sha256(DOMAIN + other.encode()): other for other in texts.get(entry["n"] - 1, ())}
        if entry["prev"] not in hashed:
            return problems + [f"entry {entry['n'] - 1} is missing or changed"]
        text = hashed[entry["prev"]]
    on_chain = {text for _, text in chain}
    for n, same in texts.items():
        for text in same - on_chain:
            problems.append(f"an entry {n} is not on the chain")

    # What the entries seal.
    sealed, announced = {}, {}
    for entry, _ in reversed(chain):
        listed = entry.get("children", [])
        if "list" in entry:
            body = children.get((entry["gen"], "LIST#" + entry["list"], False), "")
            if sha256(body.encode()) != entry["list"]:
                problems.append(f"the list of entry {entry['n']} is missing or changed")
                continue
            listed = json.loads(body)
        for child in listed:
            sealed[(entry["gen"], child["name"])] = child["sha256"]
        if "announced" in entry:
            announced[(entry["gen"], entry["announced"]["name"])] = entry["announced"]["sha256"]
    stored = {
        (generation, name): body
        for (generation, name, _), body in children.items()
        if not name.startswith(("AUD#", "LIST#"))
    }
    for key, body in stored.items():
        wanted = sealed.get(key, announced.get(key))
        if wanted is None:
            problems.append(f"{key} is sealed by no entry")
        elif wanted != sha256(body.encode()):
            problems.append(f"{key} was changed")
    for key in sealed.keys() - stored.keys():
        problems.append(f"{key} is missing")
    return problems


def main():
    try:
        with open(sys.argv[1], "rb") as file:
            incident, head, children = read(file.read())
        problems = verify(incident, head, children)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        problems = [f"the file cannot be read: {error!r}"]
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
