"""Checks that docs/architecture.md is up to date: every folder with sources has its row, and its files and functions exist.

usage: test_architecture.py SOURCE_ROOT
"""
import os
import re
import sys

root = sys.argv[1]
PARTS = ("base", "comm", "data", "layers", "trainer", "scripts", "configs", "tests")
MIRRORS = ("base", "comm", "data", "layers", "trainer")  # below tests/, these mirror the folders of the source

with open(os.path.join(root, "docs", "architecture.md"), encoding="utf-8") as file:
    text = file.read()
folders, files, code = set(), {}, ""
for part in PARTS:
    for folder, _, names in os.walk(os.path.join(root, part)):
        own = [name for name in names if name.endswith((".c", ".cu", ".h", ".py", ".sh", ".yaml", ".json", ".1", ".sbatch"))]
        if own:
            folders.add(os.path.relpath(folder, root))
        for name in own:
            path = os.path.join(folder, name)
            files.setdefault(name, []).append(os.path.relpath(path, root))
            if name.endswith((".c", ".cu", ".h")):
                with open(path, encoding="utf-8") as file:
                    code += file.read()

failures = []
rows = set(re.findall(r"^\| `([^`]+)/` \|", text, re.M))
for folder in sorted(folders):
    above = folder.split(os.sep)
    mirrored = above[0] == "tests" and len(above) > 1 and (above[1] in MIRRORS or "tests/" + above[1] in rows)
    if folder not in rows and not mirrored and "__pycache__" not in folder:
        failures.append(f"{folder}/ has no row")
failures += [f"{row}/ does not exist" for row in sorted(rows) if not os.path.isdir(os.path.join(root, row))]
for name in set(re.findall(r"`([\w/]+\.(?:c|h|cu))`", text)):
    if os.path.basename(name) not in files or ("/" in name and not os.path.exists(os.path.join(root, name))):
        if name not in ("x.c", "x.h", "x_internal.h"):
            failures.append(f"{name} does not exist")
for name in set(re.findall(r"`(?:struct )?([a-z]\w*_\w+|evaluate|train|accumulate|update|prefetch)`", text)):
    if not re.search(rf"\b{name}\b", code):
        failures.append(f"{name} is not in the source")
for name, path in re.findall(r"`(\w+)`\s*\(`([\w/]+\.[ch])`", text):  # a function and the file that defines it
    paths = [path] if "/" in path else files.get(path, [])
    bodies = []
    for candidate in paths:
        if os.path.exists(os.path.join(root, candidate)):
            with open(os.path.join(root, candidate), encoding="utf-8") as file:
                bodies.append(file.read())
    if not any(re.search(rf"^[\w *]*\b{name}\(", body, re.M) for body in bodies):
        failures.append(f"{name} is not defined in {path}")
print(f"architecture.md: {len(rows)} folders, {len(failures)} failures")
print("\n".join(failures))
sys.exit(bool(failures))
