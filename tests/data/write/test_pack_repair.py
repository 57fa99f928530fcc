#!/usr/bin/env python3
"""test_pack_repair.py CSC_PACK: verify names every kind of damage; repair restores from a copy or from a part packed
again, or drops what is damaged; estimates agree with what packing then does; zstd accepts all frames."""
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, f"{os.path.dirname(os.path.abspath(__file__))}/..")
import pack_images as made
from pack_images import JPEG, check, png, read_dataset, run, snapshot, write

PACK = sys.argv[1]


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 8]))


def blocks(path):
    """[(offset, bytes, samples)] of a shard."""
    data = open(path, "rb").read()
    table, count = struct.unpack_from("<QI", data, 24)
    return [struct.unpack_from("<QI4xII", data, table + 32 * b)[:2] + struct.unpack_from("<I", data, table + 32 * b + 20)
            for b in range(count)]


def verify(path, *says, code=65, options=()):
    done = subprocess.run([PACK, "verify", path, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check(done.returncode == code, "verify says", done.returncode, "not", code, done.stderr)
    for text in says:
        check(re.search(text, done.stderr + done.stdout), "verify does not say", text, "but", done.stderr)


def damage(folder):
    """Damages a block of shard 0 and the table of shard 1, and removes shard 2."""
    offset, size, _ = blocks(f"{folder}/shard-00000.csz")[1]
    flip(f"{folder}/shard-00000.csz", offset + size // 2)
    flip(f"{folder}/shard-00001.csz", -5)
    os.remove(f"{folder}/shard-00002.csz")


def test_repair(folder):
    whole = f"{folder}/whole/train"
    expected = snapshot(whole)
    bad, copy = f"{folder}/bad", f"{folder}/copy"
    shutil.copytree(whole, bad)
    shutil.copytree(whole, copy)
    damage(bad)
    for options in ((), ("--deep", "--workers", "3")):
        verify(bad, "shard-00000.csz: block 1 at byte", "shard-00001.csz: header or table damaged", "shard-00002.csz: No such file",
               "2 of .* shards are missing or damaged, and 1 of", code=74, options=options)
    run(PACK, "repair", bad, expect=2, says="--from DIR.*--drop")
    run(PACK, "repair", bad, "--from", copy, says="1 blocks were damaged, 1 of them and 2 shards restored")
    check(not made.differences(snapshot(bad), expected), "repaired from a copy", made.differences(snapshot(bad), expected))
    verify(bad, "every image", code=0, options=["--deep"])
    # the first part holds the damaged block and nothing else of use
    offset, size, _ = blocks(f"{bad}/shard-00000.csz")[0]
    flip(f"{bad}/shard-00000.csz", offset + size - 1)
    run(PACK, "imagenet", f"{folder}/in/train.tar", f"{folder}/part", "--shard-mb", "1", "--part", "1/2")
    run(PACK, "repair", bad, "--from", f"{folder}/part/train", says="1 of them and 0 shards restored")
    check(not made.differences(snapshot(bad), expected), "repaired from a part")
    flip(f"{bad}/shard-00003.csz", 100)
    done = subprocess.run([PACK, "repair", bad, "--from", f"{folder}/part/train"], stderr=subprocess.PIPE, text=True)
    check(done.returncode == 65 and "still damaged; --drop leaves them out" in done.stderr, done)
    return expected


def test_drop(folder, expected):
    bad = f"{folder}/drop"
    shutil.copytree(f"{folder}/whole/train", bad)
    before_index, before = read_dataset(bad)
    first = blocks(f"{bad}/shard-00000.csz")
    lost = first[1][2] + sum(n for number in (1, 2) for _, _, n in blocks(f"{bad}/shard-0000{number}.csz"))
    damage(bad)
    run(PACK, "repair", bad, "--drop", says=f"{lost} images dropped")
    index, samples = read_dataset(bad)
    kept = before[:first[0][2]] + before[first[0][2] + first[1][2]:sum(n for _, _, n in first)]
    kept += before[len(kept) + lost:]
    check(samples == kept, "what is left differs", len(samples), len(kept))
    check(index["hash"] != before_index["hash"] and "dropped" in index["made_by"], index["made_by"])
    verify(bad, "every image", code=0, options=["--deep"])
    text = snapshot(bad)
    run(PACK, "repair", bad, "--drop", says="0 blocks were damaged")
    check(snapshot(bad) == text, "a second repair changed something")
    # killed between the shards and the index: shards are new, the index is old
    again = f"{folder}/again"
    shutil.copytree(f"{folder}/whole/train", again)
    os.remove(f"{again}/shard-00002.csz")
    os.remove(f"{again}/shard-00001.csz")
    shutil.copy(f"{bad}/shard-00000.csz", f"{again}/shard-00000.csz")
    run(PACK, "repair", again, "--drop")
    check(snapshot(again)["index.json"] == text["index.json"], "an interrupted repair ends elsewhere")
    for name in os.listdir(again):
        if name.endswith(".csz"):
            os.truncate(f"{again}/{name}", 50)
    done = subprocess.run([PACK, "repair", again, "--drop"], stderr=subprocess.PIPE, text=True)
    check(done.returncode == 65 and "nothing would be left" in done.stderr, done)


def test_frames(folder):
    """zstd's own program accepts every frame of every block."""
    if not shutil.which("zstd"):
        return
    for name in sorted(os.listdir(f"{folder}/whole/train")):
        path = f"{folder}/whole/train/{name}"
        if name.endswith(".csz"):
            data = open(path, "rb").read()
            table = struct.unpack_from("<Q", data, 24)[0]
            frames = subprocess.run(["zstd", "-q", "-t", "-"], input=data[64:table], stderr=subprocess.PIPE)
            check(frames.returncode == 0, name, frames.stderr)
            cut = subprocess.run(["zstd", "-q", "-t", "-"], input=data[64:table - 1], stderr=subprocess.DEVNULL)
            check(cut.returncode != 0, name, "zstd -t does not see that it is cut")


def test_estimate(folder):
    rng = random.Random(4)
    images = [(f"a/{i}.png", png(40, 30, made.noise(rng, 40, 30))) for i in range(59)] + [("a/y.jpg", JPEG["rgb"])]
    images += [("b/grey.jpg", JPEG["grey"]), ("b/bad.jpg", b"no")]
    for name, data in images:
        write(f"{folder}/images/{name}", data)
    text = run(PACK, "imagefolder", f"{folder}/images", f"{folder}/never", "--estimate", says="from 62 of 62 images")
    check("1 of them cannot be read" in text and not os.path.exists(f"{folder}/never"), text)
    sizes = {}
    for codec in "rgbz", "jpeg":
        said = re.search(rf"{codec} +(\d+) +([\d.]+) GB +([\d.]+) ms +([\d.]+) ms", text)
        check(said and float(said[3]) > 0 and float(said[4]) > 0, codec, text)
        run(PACK, "imagefolder", f"{folder}/images", f"{folder}/as-{codec}", "--codec", codec, "--bad", "skip")
        sizes[codec] = os.path.getsize(f"{folder}/as-{codec}/shard-00000.csz")
        check(said and abs(int(said[1]) * 61 / sizes[codec] - 1) < 0.2, codec, said, sizes)
        run(PACK, "bench", f"{folder}/as-{codec}", says=rf"{codec} +\d+")
        run(PACK, "info", f"{folder}/as-{codec}", "--json", f"{folder}/info.json", says=f"codec {codec}")
        check(json.load(open(f"{folder}/info.json"))["codec"] == codec, "info --json")
    os.symlink("/nowhere", f"{folder}/images/a/gone.jpg")
    run(PACK, "imagefolder", f"{folder}/images", f"{folder}/gone", expect=74, says="a/gone.jpg.*--bad skip")
    run(PACK, "imagefolder", f"{folder}/images", f"{folder}/gone", "--bad", "skip", says="2 images left out")
    check("a/gone.jpg\tleft out: " in open(f"{folder}/gone/report.tsv").read(), "the report")


def main():
    folder = tempfile.mkdtemp(prefix="csc-repair-")
    try:
        made.imagenet(f"{folder}/in", 3, 60, 10, size=100, seed=3)
        run(PACK, "imagenet", f"{folder}/in/train.tar", f"{folder}/whole", "--shard-mb", "1")
        expected = test_repair(folder)
        test_drop(folder, expected)
        test_frames(folder)
        test_estimate(folder)
    finally:
        shutil.rmtree(folder)
    return made.done("pack-repair")


if __name__ == "__main__":
    sys.exit(main())
