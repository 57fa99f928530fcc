"""imagenet_size.py BUILD_DIR [--images N] [--classes N] - packs a set of ImageNet's size from tiny images, opens it,
seeks in it and resumes from it, checks what comes out, and prints the time and the memory of each.

The whole size, 1,281,167 images of 1,000 classes, is the default: about two minutes and 2 GB below $TMPDIR. The tests
take 100,000 images of 1,000 classes. The images are PNGs of 8x8 pixels in tars in a tar, as ImageNet's are; their first
pixels say which they are, so that tests/data/read/seek_samples.c can tell that each comes out in its place."""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib

SIDE = 8
OPEN_KB, LOADER_KB = 64 << 10, 600 << 10  # at most: a loader keeps decoded blocks of up to 512 MB


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


HEAD = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0))
REST = random.Random(1).randbytes((SIDE * SIDE - 2) * 3)


def png(number, label):
    pixels = number.to_bytes(3, "little") + label.to_bytes(3, "little") + REST
    lines = b"".join(b"\0" + pixels[i:i + SIDE * 3] for i in range(0, len(pixels), SIDE * 3))
    return HEAD + chunk(b"IDAT", zlib.compress(lines, 0)) + chunk(b"IEND", b"")


def member(name, size):
    """The 512 bytes before a file in a tar."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def class_tar(wnid, numbers, label):
    """As member() makes them, but with one header changed in place: a name of as many characters, and its sum."""
    head = bytearray(member(f"{wnid}_0000000.JPEG", len(png(0, 0))))
    digits = slice(len(wnid) + 1, len(wnid) + 8)
    base = sum(head) - sum(head[148:156]) + 8 * 32 - sum(head[digits])
    parts = []
    for number in numbers:
        head[digits] = b"%07d" % number
        head[148:156] = b"%06o\0 " % (base + sum(head[digits]))
        data = png(number, label)
        parts += [bytes(head), data, bytes(-len(data) % 512)]
    return b"".join(parts) + bytes(1024)


def write_archive(path, images, classes):
    with open(path, "wb") as out:
        for label in range(classes):
            wnid = f"n{1440764 + 7 * label:08d}"
            tar = class_tar(wnid, range(images * label // classes, images * (label + 1) // classes), label)
            out.write(member(wnid + ".tar", len(tar)) + tar + bytes(-len(tar) % 512))
        out.write(bytes(1024))


def run(what, *command, code=0, cwd=None):
    """Runs it, prints its time and its peak of memory, and returns its output."""
    start = time.time()
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=cwd)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if child.returncode != code:
        sys.exit(f"failed: {' '.join(command)}: exit code {child.returncode}, not {code}\n{text}")
    print(f"{what:<42} {time.time() - start:7.1f} s  {usage.ru_maxrss / 1024:7.0f} MB", flush=True)
    return text


def read(*path):
    with open(os.path.join(*path), "rb") as f:
        return f.read()


def resume(build, folder, steps):
    """Three steps, and three steps in two runs: the same bytes."""
    config = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../configs/imagenet.yaml")
    train = [os.path.join(build, "trainer", "csc-train"), config, "model.width=4", f"data.image_size={SIDE}",
             "data.train=set/train", "data.val=none", "device.threads=1"]
    last = "checkpoints/step-00000003/model.safetensors"
    run("csc-train, three steps of 2,048", *train, "run.name=whole", "--stop-after=3", code=75, cwd=folder)
    run("csc-train, two steps", *train, "run.name=parts", "--stop-after=2", code=75, cwd=folder)
    text = run("csc-train --resume=auto, the third", *train, "run.name=parts", "--stop-after=1", "--resume=auto",
               code=75, cwd=folder)
    if f"{steps * 100}" not in text.replace(",", ""):
        sys.exit(f"failed: the run has not {steps} steps an epoch: {text}")
    if read(folder, "runs/whole", last) != read(folder, "runs/parts", last):
        sys.exit("failed: the resumed run ends in other weights")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--images", type=int, default=1281167)
    parser.add_argument("--classes", type=int, default=1000)
    options = parser.parse_args()
    build = os.path.abspath(options.build)
    pack = os.path.join(build, "trainer", "csc-pack")
    with tempfile.TemporaryDirectory(prefix="csc-size-") as folder:
        start = time.time()
        write_archive(f"{folder}/train.tar", options.images, options.classes)
        size = os.path.getsize(f"{folder}/train.tar") >> 20
        print(f"{'archive':<42} {time.time() - start:7.1f} s  {size:7} MB of disk")
        run("csc-pack imagenet", pack, "imagenet", f"{folder}/train.tar", f"{folder}/set")
        os.remove(f"{folder}/train.tar")
        run("csc-pack verify --deep", pack, "verify", f"{folder}/set/train", "--deep")
        run("csc-pack info", pack, "info", f"{folder}/set/train")
        text = run("open, 200 seeks", f"{build}/tests/data/read/seek-samples", f"{folder}/set/train")
        seeks = json.loads(text)
        opened, each, longest = (1000 * seeks[name] for name in ("open_s", "seek_s", "longest_seek_s"))
        print(f"    opening {opened:.1f} ms, {seeks['open_kb'] / 1024:.0f} MB of its own; a seek and its 64 images "
              f"{each:.1f} ms, {longest:.1f} at most; then {seeks['end_kb'] / 1024:.0f} MB")
        if (seeks["samples"], seeks["classes"]) != (options.images, options.classes):
            sys.exit(f"failed: not this set: {seeks}")
        if seeks["open_kb"] > OPEN_KB or seeks["end_kb"] > LOADER_KB:
            sys.exit(f"failed: too much memory: {seeks}")
        resume(build, folder, options.images // 2048)


main()
