#!/usr/bin/env python3
"""test_csc_pack.py CSC_PACK: checks the program's exit codes, messages and files. Datasets are read by scripts/csz.py, which
is written from data/format/FORMAT.md alone."""
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, f"{os.path.dirname(os.path.abspath(__file__))}/../../../scripts")
import csz

PACK = sys.argv[1]
failures = checks = 0


def check(condition, *about):
    global failures, checks
    checks += 1
    if not condition:
        failures += 1
        print("failed:", *about, file=sys.stderr)


def run(*arguments, expect=0, says=None):
    done = subprocess.run([PACK, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    text = done.stdout + done.stderr
    check(done.returncode == expect, arguments, "exit code", done.returncode, "not", expect, text)
    check(says is None or re.search(says, text), arguments, "does not say", says, "but", text)
    if expect:
        lines = [line for line in done.stderr.splitlines() if ": warning: " not in line]
        check(len(lines) == 1, arguments, "says more or less than one line:", done.stderr)
    return text


def read_dataset(path):
    """(index, [(label, width, height, pixels)]), every hash checked."""
    try:
        return csz.read_dataset(path)
    except ValueError as error:
        check(False, path, error)
        return {}, []


# ---- CIFAR ----

def cifar_records(rng, count, classes, coarse=False):
    """(file content, expected samples)"""
    data, expected = b"", []
    for _ in range(count):
        label, pixels = rng.randrange(classes), rng.randbytes(3072)
        data += bytes([rng.randrange(20)] * coarse + [label]) + pixels
        expected.append((label, 32, 32, bytes(pixels[c * 1024 + i] for i in range(1024) for c in range(3))))
    return data, expected


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(data)


def test_cifar10(folder):
    rng, expected = random.Random(3), {}
    for name, count in (("data_batch_1", 7), ("data_batch_2", 5), ("data_batch_10", 3), ("test_batch", 4)):
        data, expected[name] = cifar_records(rng, count, 10)
        write(f"{folder}/src/cifar-10-batches-bin/{name}.bin", data)
    train = expected["data_batch_1"] + expected["data_batch_2"] + expected["data_batch_10"]
    run("cifar10", f"{folder}/src", f"{folder}/a", says="15 images")
    index, samples = read_dataset(f"{folder}/a/train")
    check(samples == train, "training images differ or are out of order")
    check(index["classes"][9] == "truck" and index["width"] == index["height"] == 32, "names or size")
    check(read_dataset(f"{folder}/a/val")[1] == expected["test_batch"], "test images differ")
    source = f"{folder}/src/cifar-10-batches-bin"
    write(f"{source}/batches.meta.txt", "\n".join("abcdefghij").encode() + b"\n\n")
    run("cifar10", source, f"{folder}/b", "--workers", "3")
    check(read_dataset(f"{folder}/b/train")[0]["classes"] == list("abcdefghij"), "names of batches.meta.txt")
    with tarfile.open(f"{folder}/c.tar.gz", "w:gz") as tar:  # members out of order, as in the original
        for name in sorted(os.listdir(source), reverse=True):
            tar.add(f"{source}/{name}", f"cifar-10-batches-bin/{name}")
    run("cifar10", f"{folder}/c.tar.gz", f"{folder}/c")
    for part in "train", "val":
        check(open(f"{folder}/b/{part}/index.json").read() == open(f"{folder}/c/{part}/index.json").read(),
              "the archive gives another dataset than the folder")
    run("cifar10", source, f"{folder}/b", expect=2, says="--force")
    run("cifar10", source, f"{folder}/b", "--force")
    test_partial_cifar10(folder, expected)


def test_partial_cifar10(folder, expected):
    source = f"{folder}/src/cifar-10-batches-bin"
    shutil.copytree(source, f"{folder}/one")
    for name in "data_batch_2.bin", "data_batch_10.bin", "test_batch.bin":
        os.remove(f"{folder}/one/{name}")
    run("cifar10", f"{folder}/one", f"{folder}/d")
    check(os.listdir(f"{folder}/d") == ["train"], os.listdir(f"{folder}/d"))
    check(read_dataset(f"{folder}/d/train")[1] == expected["data_batch_1"], "a single file")
    os.makedirs(f"{folder}/empty")
    run("cifar10", f"{folder}/empty", f"{folder}/e", expect=65, says="none of data_batch_1.bin")
    run("cifar10", f"{folder}/absent", f"{folder}/e", expect=74)
    for name, data, says in (("short", bytes(3000), "3000 bytes"), ("empty", b"", "0 bytes"),
                             ("label", b"\x0a" + bytes(3072), "label 10")):
        write(f"{folder}/bad-{name}/data_batch_1.bin", data)
        run("cifar10", f"{folder}/bad-{name}", f"{folder}/e", expect=65, says=says)
        check(not os.path.exists(f"{folder}/e/train/index.json"), name, "leaves an index")
    write(f"{folder}/bad-names/data_batch_1.bin", bytes(3073))
    write(f"{folder}/bad-names/batches.meta.txt", b"one\ntwo\n")
    run("cifar10", f"{folder}/bad-names", f"{folder}/e", expect=65, says="2 names")


def test_cifar100(folder):
    rng = random.Random(4)
    train, expected = cifar_records(rng, 9, 100, coarse=True)
    write(f"{folder}/h/cifar-100-binary/train.bin", train)
    run("cifar100", f"{folder}/h", f"{folder}/h-out")
    index, samples = read_dataset(f"{folder}/h-out/train")
    check(samples == expected, "fine labels or pixels differ")
    check(index["classes"][0] == "apple" and index["classes"][99] == "worm" and len(set(index["classes"])) == 100,
          "the 100 names")
    write(f"{folder}/h/cifar-100-binary/fine_label_names.txt", b"".join(b"n%d\n" % i for i in range(100)))
    run("cifar100", f"{folder}/h", f"{folder}/h-out", "--force")
    check(read_dataset(f"{folder}/h-out/train")[0]["classes"][57] == "n57", "names of fine_label_names.txt")


# ---- the rest ----

def test_synth(folder):
    out = f"{folder}/s"
    arguments = ["synth", out, "--images", "25", "--classes", "3", "--size", "9", "--noise", "0.05", "--seed", "4"]
    run(*arguments)
    train, val = read_dataset(f"{out}/train")[1], read_dataset(f"{out}/val")[1]
    check(len(train) == 25 and len(val) == 5 and all(s[1:3] == (9, 9) for s in train), "synth")
    check(not {s[3] for s in train} & {s[3] for s in val}, "training and held-out images coincide")
    first = open(f"{out}/train/shard-00000.csz", "rb").read()
    run(*arguments, "--force", "--workers", "1")
    check(open(f"{out}/train/shard-00000.csz", "rb").read() == first, "synth does not repeat")
    data = open(f"{out}/truth.safetensors", "rb").read()
    header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
    check(header["atoms"]["shape"] == [18, 3, 7, 7] and header["__metadata__"]["seed"] == "4", header)
    check(run("info", f"{out}/train", "--json", f"{folder}/info.json").count("dictionary-") == 3, "info")
    check(sorted(json.load(open(f"{folder}/info.json"))["counts"]) == [8, 8, 9], "info --json")


def test_verify(folder):
    out = f"{folder}/s/train"
    run("verify", out, says="good: 25 images")
    run("verify", out, "--deep", says="every image")
    path = f"{out}/shard-00000.csz"
    data = bytearray(open(path, "rb").read())
    data[100] ^= 2
    open(path, "wb").write(data)
    done = subprocess.run([PACK, "verify", out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check(done.returncode == 65 and re.search(r"shard-00000.csz: block 0 at byte 64 damaged: expected hash [0-9a-f]{16}, found",
                                              done.stderr), done)
    data[100] ^= 2
    open(path, "wb").write(data[:-1])
    run("info", out, expect=65, says="truncated or damaged")
    os.remove(path)
    run("info", out, expect=74, says="shard-00000.csz: No such file")
    run("verify", f"{folder}/nowhere", expect=74, says="no such dataset")
    run("verify", folder, expect=74, says="no index.json")


def test_usage(folder):
    run(expect=2, says="subcommand is missing")
    run("frobnicate", expect=2, says="'frobnicate' is not a subcommand")
    run("cifar10", "a", expect=2, says="usage: csc-pack cifar10 SRC OUT")
    run("cifar10", "a", "b", "--deep", expect=2, says="no option --deep")
    run("cifar10", "a", "b", "--frob", expect=2, says="no option --frob")
    run("synth", "x", "--images", expect=2, says="--images needs a value")
    for option, value in (("--images", "0"), ("--images", "1x"), ("--classes", "1"), ("--size", "5000"),
                          ("--noise", "nan"), ("--noise", "-1"), ("--seed", "-1"), ("--workers", "0")):
        run("synth", f"{folder}/never", option, value, expect=2, says=option)
    for option, value in (("--bad", "ignore"), ("--resize", "short"), ("--resize", "short:0"), ("--codec", "webp"),
                          ("--part", "0/2"), ("--part", "3/2"), ("--part", "1"), ("--part", "1/2x"),
                          ("--part", "4294967297/4294967298"), ("--shard-mb", "0")):
        run("imagefolder", "a", f"{folder}/never", option, value, expect=2, says=option)
    run("synth", f"{folder}/never", "--codec", "jpeg", expect=2, says="do not come from files")
    check(not os.path.exists(f"{folder}/never"), "a usage error wrote something")
    check(re.fullmatch(r"csc-pack \d+\.\d+\.\d+\n", run("--version")), "--version")
    listed = re.findall(r"^  csc-pack (\w+) ", run("--help"), re.M)
    for name in listed:
        if name != "SUBCOMMAND":
            run(name, "--help", says=f"Usage: csc-pack {name}")
    check({"cifar10", "cifar100", "imagefolder", "imagenet", "synth", "merge", "verify", "info", "repair", "bench"} <= set(listed), listed)


def test_killed(folder):
    """A packing that was killed is not a dataset, and another one only replaces it with --force."""
    out = f"{folder}/killed"
    arguments = [PACK, "synth", out, "--images", "200000", "--size", "64", "--workers", "1"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    for _ in range(1000):
        time.sleep(0.01)
        journal = f"{out}/train/packing.journal"
        if os.path.exists(journal) and os.path.getsize(journal) > 5000:
            break
    process.send_signal(signal.SIGKILL)
    check(process.wait() == -signal.SIGKILL, "ended before it could be killed")
    left = os.listdir(f"{out}/train")
    check("index.json" not in left and any(n.endswith(".tmp") for n in left), left)
    run("info", f"{out}/train", expect=74, says="no index.json")
    run("synth", out, "--images", "20", "--size", "8", expect=2, says="beginning of another packing.*--force")
    run("synth", out, "--images", "20", "--size", "8", "--force")
    check(sorted(os.listdir(f"{out}/train")) == ["index.json", "shard-00000.csz"], os.listdir(f"{out}/train"))
    run("verify", f"{out}/train", "--deep")


def main():
    folder = tempfile.mkdtemp(prefix="csc-pack-")
    try:
        for test in (test_cifar10, test_cifar100, test_synth, test_verify, test_usage, test_killed):
            test(folder)
    finally:
        shutil.rmtree(folder)
    print(f"csc-pack: {checks} checks, {failures} failed")
    return 1 if failures or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
