#!/usr/bin/env python3
"""Turns the offsets in inc/*.h into static assertions, and compares them with the project's layout facts.

layout.py --header DIR          prints C with an assertion for each offset and size
layout.py --facts DIR DIR       compares inc/ (first) with src/symbols/facts (second) for the build below
"""
import pathlib
import re
import sys

BUILD = "10.0.19041.804"


def parse(text):
    """{type: (size, {member path: offset}, {path of bit-fields})} of a header."""
    types, stack, name = {}, [], None
    for line in text.splitlines():
        code, _, comment = line.partition("//")
        code = code.strip()
        offset = re.match(r"\s*0x([0-9a-f]+)", comment)
        offset = int(offset[1], 16) if offset else None
        if not stack:
            m = re.match(r"(?:typedef )?(struct|union) (_\w+) {$", code)
            if m:
                name, stack = m[2], [{}]
                size = offset
            continue
        if re.match(r"(struct|union) {$", code):
            stack.append({})
        elif code.startswith("}"):
            inner = stack.pop()
            if not stack:
                if size is not None:
                    types[name] = (size, inner)
                continue
            label = re.match(r"}\s*(\w*)", code)[1]
            prefix = label + "." if label else ""
            stack[-1].update({prefix + k: v for k, v in inner.items()})
            if label and offset is not None:
                stack[-1][label] = (offset, False)
        else:
            m = re.search(r"(\w+)(\[[^;]*\])*( : \d+)?;$", code)
            if m and offset is not None:
                stack[-1][m[1]] = (offset, bool(m[3]))
    return types


def read_all(folder):
    types = {}
    for path in sorted(pathlib.Path(folder).glob("*.h")):
        types.update(parse(path.read_text()))
    return types


def assertions(types):
    out = ['#include "ntp.h"']
    for name, (size, members) in types.items():
        kind = "union" if name in ("_LARGE_INTEGER", "_ULARGE_INTEGER") else "struct"
        out.append(f'_Static_assert(sizeof({kind} {name}) == {size:#x}, "{name}");')
        for path, (offset, bits) in members.items():
            if not bits:
                out.append(f'_Static_assert(OFFSET_OF({kind} {name}, {path}) == {offset:#x}, "{name}.{path}");')
    return "\n".join(out)


def read_facts(path):
    column, size, members = None, None, {}
    for line in path.read_text().splitlines():
        words = line.split()
        if line.startswith("builds "):
            column = words[1:].index(BUILD)
        elif line.startswith("size "):
            size = words[1:][column]
        elif "|" in line:
            parts = [p.strip() for p in line.split("|")]
            at = parts[2].split()[column]
            if at != "-":
                members[parts[0]] = int(at, 16)
    return (None if size in (None, "-") else int(size, 16)), members


def compare(types, facts):
    bad = known = 0
    for name, (size, members) in types.items():
        path = pathlib.Path(facts) / f"{name}.facts"
        if not path.exists():
            continue
        real_size, real = read_facts(path)
        if real_size is not None and real_size != size:
            print(f"{name}: size {size:#x}, in the facts {real_size:#x}")
            bad += 1
        for member, (offset, _) in members.items():
            if member in real:
                known += 1
                if real[member] != offset:
                    print(f"{name}.{member}: {offset:#x}, in the facts {real[member]:#x}")
                    bad += 1
    print(f"{known} members compared with the facts of {BUILD}, {bad} differ")
    return bad


def main():
    if sys.argv[1:2] == ["--header"] and len(sys.argv) == 3:
        print(assertions(read_all(sys.argv[2])))
    elif sys.argv[1:2] == ["--facts"] and len(sys.argv) == 4:
        sys.exit(1 if compare(read_all(sys.argv[2]), sys.argv[3]) else 0)
    else:
        sys.exit(__doc__)


main()
