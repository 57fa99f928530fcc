#!/usr/bin/env python3
"""test_csc_pack.py CSC_PACK: the program from outside - its exit codes, what it writes where, and an
independent reader of the format, written from data/FORMAT.md."""
import ctypes
import ctypes.util
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
        check(done.stderr.count("\n") == 1, arguments, "says more or less than one line:", done.stderr)
    return text


# ---- an independent reader ----

def rotate(x, by):
    return (x << by | x >> 64 - by) & (1 << 64) - 1


def xxh64(data):
    p1, p2, p3, p4, p5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                          0x27D4EB2F165667C5)
    mask, at = (1 << 64) - 1, 0

    def turn(lane, word):
        return rotate((lane + word * p2) & mask, 31) * p1 & mask

    if len(data) >= 32:
        lanes = [(p1 + p2) & mask, p2, 0, -p1 & mask]
        while at + 32 <= len(data):
            lanes = [turn(lane, word) for lane, word in zip(lanes, struct.unpack_from("<4Q", data, at))]
            at += 32
        h = sum(rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18))) & mask
        for lane in lanes:
            h = ((h ^ turn(0, lane)) * p1 + p4) & mask
    else:
        h = p5
    h = (h + len(data)) & mask
    while at + 8 <= len(data):
        h = (rotate(h ^ turn(0, struct.unpack_from("<Q", data, at)[0]), 27) * p1 + p4) & mask
        at += 8
    if at + 4 <= len(data):
        h = (rotate(h ^ struct.unpack_from("<I", data, at)[0] * p1 & mask, 23) * p2 + p3) & mask
        at += 4
    for byte in data[at:]:
        h = rotate(h ^ byte * p5 & mask, 11) * p1 & mask
    h = (h ^ h >> 33) * p2 & mask
    h = (h ^ h >> 29) * p3 & mask
    return h ^ h >> 32


def decompress(frame, size):
    library = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    out = ctypes.create_string_buffer(size)
    check(library.ZSTD_decompress(out, size, frame, len(frame)) == size, "zstd gives another size")
    return out.raw


def rgb(payload, width, height):
    planes = []
    for p in range(3):
        plane = bytearray(payload[p * width * height:(p + 1) * width * height])
        for i in range(width, width * height):
            plane[i] = (plane[i] + plane[i - width]) & 255
        planes.append(plane)
    g, r, b = planes
    return bytes(v for i in range(width * height) for v in ((r[i] + g[i]) & 255, g[i], (b[i] + g[i]) & 255))


def read_dataset(path):
    """[(label, width, height, pixels)], every hash checked."""
    text = open(f"{path}/index.json", "rb").read()
    index = json.loads(text)
    check(text[-20:-4].decode() == index["hash"] == f"{xxh64(text[:-20]):016x}", path, "hash of the index")
    samples = []
    for shard in index["shards"]:
        data = open(f"{path}/{shard['name']}", "rb").read()
        magic, version, codec, count, table, blocks = struct.unpack_from("<8sIIQQI", data)
        check((magic, version, codec) == (b"\x89CSZ\r\n\x1a\n", 1, 1), path, "header")
        check((len(data), count, blocks) == (shard["bytes"], shard["samples"], shard["blocks"]), path, "sizes")
        own = struct.unpack_from("<Q", data, 56)[0]
        check(own == xxh64(data[:56] + bytes(8) + data[table:]) == int(shard["hash"], 16), path, "hash of the table")
        for b in range(blocks):
            offset, size, raw_size, first, n, digest = struct.unpack_from("<QIIIIQ", data, table + 32 * b)
            frame = data[offset:offset + size]
            check(digest == xxh64(frame), path, "hash of block", b)
            check(first + sum(s["samples"] for s in index["shards"][:index["shards"].index(shard)]) == len(samples),
                  path, "first sample of block", b)
            raw, at = decompress(frame, raw_size), 0
            for _ in range(n):
                label, version, width, height, row, rows, payload = struct.unpack_from("<IB3xIIIII", raw, at)
                check((version, row, rows, payload) == (1, 0, height, 3 * width * height), path, "record")
                samples.append((label, width, height, rgb(raw[at + 32:at + 32 + payload], width, height)))
                at += 32 + payload
            check(at == raw_size, path, "block", b, "ends elsewhere")
    check(len(samples) == index["samples"] and [sum(s[0] == c for s in samples) for c in range(len(index["classes"]))]
          == index["counts"], path, "counts")
    return index, samples


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
    check(done.returncode == 65 and re.search(r"shard-00000.csz: block 0 damaged: expected hash [0-9a-f]{16}, found",
                                              done.stderr), done)
    data[100] ^= 2
    open(path, "wb").write(data[:-1])
    run("verify", out, expect=65, says="truncated or damaged")
    run("info", out, expect=65)
    os.remove(path)
    run("verify", out, expect=74, says="shard-00000.csz: No such file")
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
    for option, value in (("--bad", "ignore"), ("--resize", "short"), ("--resize", "short:0"), ("--codec", "jpeg")):
        run("imagefolder", "a", f"{folder}/never", option, value, expect=2, says=option)
    check(not os.path.exists(f"{folder}/never"), "a usage error wrote something")
    check(re.fullmatch(r"csc-pack \d+\.\d+\.\d+\n", run("--version")), "--version")
    listed = re.findall(r"^  csc-pack (\w+) ", run("--help"), re.M)
    for name in listed:
        if name != "SUBCOMMAND":
            run(name, "--help", says=f"Usage: csc-pack {name}")
    check({"cifar10", "cifar100", "imagefolder", "synth", "verify", "info"} <= set(listed), listed)


def test_killed(folder):
    """A packing killed half-way is no dataset, and the next one starts over."""
    out = f"{folder}/killed"
    arguments = [PACK, "synth", out, "--images", "200000", "--size", "64", "--workers", "1"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    for _ in range(1000):
        time.sleep(0.01)
        if os.path.isdir(f"{out}/train") and any(
                n.endswith(".tmp") and os.path.getsize(f"{out}/train/{n}") > 100000 for n in os.listdir(f"{out}/train")):
            break
    process.send_signal(signal.SIGKILL)
    check(process.wait() == -signal.SIGKILL, "ended before it could be killed")
    left = os.listdir(f"{out}/train")
    check("index.json" not in left and any(n.endswith(".tmp") for n in left), left)
    run("info", f"{out}/train", expect=74, says="no index.json")
    run("synth", out, "--images", "20", "--size", "8")
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
