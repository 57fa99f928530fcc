#!/usr/bin/env python3
"""test_bench_loader.py CSC_PACK CSC_BENCH: checks the reports of csc-bench loader, not its speed."""
import json
import subprocess
import sys
import tempfile

PACK, BENCH = sys.argv[1:3]


def bench(path, folder, *arguments, expect=0):
    done = subprocess.run([BENCH, "loader", path, "--seconds", "0.2", "--json", f"{folder}/json", *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == expect, (arguments, done)
    if expect:
        assert done.stderr.count("\n") == 1, done.stderr
        return {}
    with open(f"{folder}/json") as file:
        result = json.load(file)
    assert f"bottleneck: {result['bottleneck']}" in done.stdout, done.stdout
    return result


with tempfile.TemporaryDirectory(prefix="csc-bench-") as folder:
    subprocess.run([PACK, "synth", f"{folder}/set", "--images", "300", "--size", "80", "--classes", "3"], check=True,
                   stdout=subprocess.DEVNULL)
    path = f"{folder}/set/train"
    full = bench(path, folder, "--workers", "2", "--batch", "20")
    assert full["images"] % 20 == 0 and full["images"] > 0 and full["img_s"] > 0 and full["workers"] == 2, full
    assert full["bottleneck"] in ("reading", "decoding", "resizing", "copying"), full
    assert all(value >= 0 for value in full["microseconds"].values()) and full["microseconds"]["resize"] > 0, full
    assert .7 < full["shuffle"]["displacement"] < 1.3, full
    none = bench(path, folder, "--shuffle", "false", "--cold")
    assert none["shuffle"]["displacement"] == 0 and none["shuffle"]["separation"] < .5, none
    slow = bench(path, folder, "--consume", "40", "--batch", "4", "--shuffle", "window", "--window", "64")
    assert slow["img_s"] < 80, slow  # --consume limited it; without a limit it is many times as fast
    for wrong in (["--workers", "0"], ["--shuffle", "maybe"], ["--consume", "-1"], ["--wrong"], ["another"]):
        bench(path, folder, *wrong, expect=2)
    bench(f"{folder}/nowhere", folder, expect=74)
print("csc-bench loader: reports what it should")
