#!/usr/bin/env python3
"""Verifies a file that `sentinel audit export` wrote, by docs/audit.md alone: the standard library, none of Sentinel's code.

usage: verify.py FILE [KEY]     ends with 0 where the record verifies, else with 1 and what is wrong. KEY: the public key
                                that has to have signed it, 64 hexadecimal digits
"""

import hashlib
import json
import sys

DOMAIN = b"sentinel-audit-1\n"
SIGNED = b"sentinel-anchor-1\n"

# Ed25519 (RFC 8032): the field, the order of the base point, the curve's d.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def point(data):
    """The point of the curve that 32 bytes stand for."""
    number = int.from_bytes(data, "little")
    y, odd = number & (2**255 - 1), number >> 255
    if y >= P:
        raise ValueError("no point of the curve")
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square or (x == 0 and odd):
        raise ValueError("no point of the curve")
    return (x if x & 1 == odd else P - x, y)


def add(a, b):
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P) % P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P
    return (x, y)


def times(number, a):
    sum_ = (0, 1)
    while number:
        if number & 1:
            sum_ = add(sum_, a)
        a, number = add(a, a), number >> 1
    return sum_


def is_signed(key, signature, message):
    """Whether a signature is this Ed25519 key's over the message."""
    if len(key) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    try:
        public, r = point(key), point(signature[:32])
    except ValueError:
        return False
    digest = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    base = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    return times(s, base) == add(r, times(digest, public))


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
    if first["head"] != (head is not None):
        raise ValueError("the first line says otherwise of the head")
    children, before = {}, None
    for value in values:
        child = value["child"]
        key = (child["gen"], child["name"], child.get("intake", False))
        if key in children:
            raise ValueError(f"{key} twice")
        children[key] = child["body"]
    return first["incident"], head, children


def check_signature(incident, head, chain, wanted):
    """`chain`: (entry, text), the newest first."""
    signed = head.get("signed")
    if signed is None:
        return [f"the head is not signed by {wanted}"] if wanted else []
    texts = {entry["n"]: text for entry, text in chain}
    if signed["n"] not in texts:
        return ["the signature is over an entry that is not on the chain"]
    anchor = {"hash": sha256(DOMAIN + texts[signed["n"]].encode()), "incident": incident, "n": signed["n"]}
    key, signature = signed["key"], signed["signature"]
    if key != key.lower() or signature != signature.lower():
        return ["the signature is not written as it should be"]
    if not is_signed(bytes.fromhex(key), bytes.fromhex(signature), SIGNED + canonical(anchor).encode()):
        return [f"the signature is not one of {key}"]
    return [f"the head is signed by {key}"] if wanted and key != wanted else []


def verify(incident, head, children, wanted=None):
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
    bare = {key: value for key, value in head.items() if key not in ("chain", "signed")}
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

    problems += check_signature(incident, head, chain, wanted)

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
        problems = verify(incident, head, children, sys.argv[2] if len(sys.argv) > 2 else None)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        problems = [f"the file cannot be read: {error!r}"]
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
