# SPDX-License-Identifier: MIT
"""What the checks of the tree share: where it is, its files, and how a check reports."""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.realpath(os.environ.get("VMBUS_SOURCE_DIR", os.path.join(HERE, "..", "..")))
BUILD = os.path.realpath(os.environ.get("VMBUS_BUILD_DIR", os.path.join(SOURCE, "build", "release")))
SKIP = 77

_problems = []


def problem(text):
    """Note something wrong; the check goes on, to show all of it."""
    _problems.append(text)


def problems():
    """How many there are so far."""
    return len(_problems)


def finish(summary):
    """End the check: every problem, or one line that says what was looked at."""
    for text in _problems:
        print(text)
    if _problems:
        sys.exit(f"{len(_problems)} problem(s)")
    print(summary)


def skip(why):
    print(f"SKIP: {why}")
    sys.exit(SKIP)


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
        return file.read()


def files(*tops, ext=()):
    """Paths of the tree's own files below the given folders, build output left out."""
    found = []
    for top in tops or ("",):
        for folder, folders, names in os.walk(os.path.join(SOURCE, top)):
            rel = os.path.relpath(folder, SOURCE)
            folders[:] = sorted(d for d in folders if d not in (".git", "__pycache__")
                                and not (rel == "." and d.startswith("build")))
            found += [os.path.normpath(os.path.join(rel, n)) for n in names]
    return sorted(f for f in found if not ext or f.endswith(tuple(ext)))


def code(text):
    """C text without its comments; line numbers stay."""
    return re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.S)


def run(*argv, **more):
    return subprocess.run(argv, capture_output=True, text=True, check=False, **more)


def declared():
    """Public functions: name -> header."""
    names = {}
    for path in files("include", ext=[".h"]):
        for name in re.findall(r"\bVMBUS_API\b[^;(]*?\b(vmbus_\w+)\s*\(", code(read(path))):
            names[name] = path
    return names


def modules():
    """The list of cmake/borders.cmake, as the build wrote it down."""
    found = {}
    with open(os.path.join(BUILD, "borders.txt"), encoding="utf-8") as file:
        for line in file:
            name, folder, hosted, outside, uses, public, headers, sees, sources = line.rstrip("\n").split("|")
            found[name] = {"dir": folder, "hosted": hosted == "TRUE", "outside": outside == "TRUE",
                           "uses": uses.split(), "public": public.split(), "headers": headers.split(),
                           "sees": sees.split(), "sources": sources.split()}
    return found
