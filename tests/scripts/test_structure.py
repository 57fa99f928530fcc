#!/usr/bin/env python3
"""test_structure.py FOLDER - rules of a checkout's structure that a reader relies on.

Modules do not include each other in circles: x.c, x.cu, x.h and x_internal.h of one folder are one module. No folder
has more than 25 modules. Each folder of the program has a meson.build that opens with what the folder is for. Lines of
C and CUDA end at 120 columns. Parts know only the parts below them: base nothing; layers, data and comm base; the
trainer all of them. (Kernels of comm/ are written in the language of kernel.h, which is the layers'.)"""
import os
import re
import sys
import unittest

ROOT = sys.argv.pop(1) if len(sys.argv) > 1 else "."
PARTS = ("base", "comm", "data", "layers", "trainer")
BELOW = {"base": {"base"}, "comm": {"base", "comm"}, "data": {"base", "data"}, "layers": {"base", "layers"},
         "trainer": set(PARTS)}
MOST_MODULES = 25
MOST_COLUMNS = 120


def sources(parts):
    """Paths below ROOT of all C and CUDA files of the parts."""
    for part in parts:
        for folder, _, names in os.walk(os.path.join(ROOT, part)):
            for name in names:
                if name.endswith((".c", ".h", ".cu")):
                    yield os.path.relpath(os.path.join(folder, name), ROOT)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def module(path):
    stem = os.path.splitext(path)[0]
    return stem[:-len("_internal")] if stem.endswith("_internal") else stem


def includes(files):
    """For each module the modules that it includes, itself left out."""
    graph = {module(path): set() for path in files}
    for path in files:
        for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', read(path), re.M):
            if included in files and module(included) != module(path):
                graph[module(path)].add(module(included))
    return graph


def circles(graph):
    """The groups of modules that reach each other: Tarjan's strongly connected components of more than one."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


class Structure(unittest.TestCase):
    def test_circles_are_found(self):
        graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}
        self.assertEqual(circles(graph), [["a", "b", "c"]])
        self.assertEqual(circles({"a": {"b"}, "b": set()}), [])

    def test_no_circles(self):
        graph = includes(set(sources(PARTS)))
        self.assertGreater(sum(map(len, graph.values())), 100, "includes were not found")
        told = [f"{a} -> {b}" for group in circles(graph) for a in group for b in sorted(graph[a]) if b in group]
        self.assertFalse(told, "modules include each other in circles:\n" + "\n".join(told))

    def test_parts(self):
        for path in sources(PARTS):
            part = path.split(os.sep)[0]
            text = read(path)
            if path.endswith(".cu"):
                text = text.replace("layers/backend/cuda/kernels/kernel.h", "")
            for included in re.findall(r'^\s*#\s*include\s+"(\w+)/', text, re.M):
                self.assertIn(included, BELOW[part], f"{path} includes a file of {included}/")

    def test_folders(self):
        folders = {}
        for path in sources((*PARTS, "tests")):
            folders.setdefault(os.path.dirname(path), set()).add(module(path))
        for folder, modules in folders.items():
            self.assertLessEqual(len(modules), MOST_MODULES, f"{folder} has too many modules to find one's way")
            if folder.split(os.sep)[0] in PARTS:
                first = read(os.path.join(folder, "meson.build")).split("\n")[0]
                self.assertRegex(first, r"^# \S.{20,}", f"{folder}/meson.build does not open with what it is for")

    def test_columns(self):
        for path in sources((*PARTS, "tests")):
            for number, line in enumerate(read(path).split("\n"), 1):
                self.assertLessEqual(len(line), MOST_COLUMNS, f"{path}:{number}: a line of {len(line)} columns")


if __name__ == "__main__":
    unittest.main()
