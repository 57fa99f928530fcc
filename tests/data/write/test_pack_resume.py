#!/usr/bin/env python3
"""test_pack_resume.py CSC_PACK KILLS [SEED]: packing killed (kill -9) at KILLS random moments, and taken up again with
another number of workers each time, gives the bytes of an uninterrupted packing; so does packing after damage to what
a kill left, after a full disk, and in parts."""
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, f"{os.path.dirname(os.path.abspath(__file__))}/..")
import pack_images as made
from pack_images import check, run, snapshot

PACK, KILLS = sys.argv[1], int(sys.argv[2])
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(10 ** 6)
rng = random.Random(SEED)


def command(folder, out, *options):
    return ["imagenet", f"{folder}/in/train.tar", f"{folder}/in/val.tar", f"{folder}/in/labels.txt", out, "--shard-mb", "1",
            *options]


def start(folder, out):
    """Starts packing with a random number of workers."""
    return subprocess.Popen([PACK, *command(folder, out, "--workers", str(rng.randrange(1, 4)))], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def kill_once(folder, out, longest):
    """Packs for a random time of at most `longest` seconds. True if it was killed before it ended."""
    process = start(folder, out)
    try:
        text, _ = process.communicate(timeout=rng.uniform(0, longest))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        text, _ = process.communicate()
    check(process.returncode in (0, -signal.SIGKILL), "exit code", process.returncode, text)
    return process.returncode != 0


def unfinished(out):
    """Whether the same command still has something to do; it may have been killed after it had done everything."""
    files = snapshot(out)
    return not {"train/index.json", "val/index.json"} <= set(files) or any(n.endswith("packing.journal") for n in files)


def test_kills(folder, expected, seconds):
    kills, sets, longest = 0, 0, seconds / 3
    while kills < KILLS:
        out, here = f"{folder}/killed-{sets}", 0
        while kills < KILLS and unfinished(out) and kill_once(folder, out, longest):
            kills += 1
            here += 1
        if unfinished(out):
            run(PACK, *command(folder, out))
        check(not made.differences(snapshot(out), expected), "after", here, "kills:", made.differences(snapshot(out), expected))
        shutil.rmtree(out)
        sets += 1
        longest = longest if here else longest / 2  # it ends before it is killed
    print(f"seed {SEED}: {kills} kills in {sets} packings of {seconds:.2f} s")


def interrupted(folder, out):
    """Packs until the journal has records of the training set and one shard is complete."""
    process = start(folder, out)
    while process.poll() is None and not os.path.exists(f"{out}/train/shard-00001.csz.tmp"):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    return os.path.exists(f"{out}/train/packing.journal")


def test_damage(folder, expected):
    """A power cut may lose the end of every file: whatever is cut or changed, the result is the same."""
    def cut(path):
        size = os.path.getsize(path)
        os.truncate(path, rng.randrange(size))

    def flip(path):
        data = bytearray(open(path, "rb").read())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        open(path, "wb").write(data)

    cases = [(cut, "packing.journal"), (flip, "packing.journal"), (cut, "shard-00000.csz"), (flip, "shard-00000.csz"),
             (os.remove, "shard-00000.csz"), (cut, ".tmp"), (flip, ".tmp"), (os.remove, ".tmp")]
    tried = 0
    for number, (damage, name) in enumerate(cases):
        out = f"{folder}/damaged-{number}"
        if not interrupted(folder, out):
            shutil.rmtree(out)
            continue  # it ended too soon
        names = [n for n in os.listdir(f"{out}/train") if n.endswith(name) and os.path.getsize(f"{out}/train/{n}")]
        if not names:
            shutil.rmtree(out)
            continue  # killed before a byte of it was written
        if name == "shard-00000.csz" and damage is flip:  # in its table, which is what is compared of a whole shard
            data = bytearray(open(f"{out}/train/{name}", "rb").read())
            data[-rng.randrange(1, 300)] ^= 4
            open(f"{out}/train/{name}", "wb").write(data)
        else:
            damage(f"{out}/train/{names[0]}")
        tried += 1
        run(PACK, *command(folder, out))
        check(not made.differences(snapshot(out), expected), damage, name, made.differences(snapshot(out), expected))
        shutil.rmtree(out)
    print(f"{tried} of {len(cases)} kinds of damage tried; the others' packings ended first or had not begun")


def test_full(folder, expected):
    """A full disk gives one line and exit code 74; once there is room, the same command completes the work."""
    out = f"{folder}/full"

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (700000, 700000))

    for attempt in range(2):
        run(PACK, *command(folder, out), expect=74, says="shard-00000.csz.tmp: File too large.*same command continues"
            if not attempt else "File too large", preexec_fn=limit)
    check(not os.path.exists(f"{out}/train/index.json"), "an index after a failure")
    run(PACK, *command(folder, out), says="continuing where it was interrupted")
    check(not made.differences(snapshot(out), expected), "after a full disk", made.differences(snapshot(out), expected))
    mount = f"{folder}/small"
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", mount], stderr=subprocess.DEVNULL).returncode == 0:
        try:
            run(PACK, *command(folder, f"{mount}/out"), expect=74, says="No space left on device")
            run(PACK, *command(folder, f"{mount}/out"), expect=74, says="No space left on device")
            subprocess.run(["mount", "-o", "remount,size=200m", mount], check=True)
            run(PACK, *command(folder, f"{mount}/out"), says="continuing where it was interrupted")
            check(not made.differences(snapshot(f"{mount}/out"), expected), "after ENOSPC")
        finally:
            subprocess.run(["umount", mount], check=True)
    made.write(f"{folder}/file", b"")
    run(PACK, *command(folder, f"{folder}/file/out"), expect=74, says="Not a directory|not a folder")
    run(PACK, *command(folder, "/proc/csc-out"), expect=74, says="/proc/csc-out")


def test_other(folder):
    """What another packing began is not mixed with this one."""
    out = f"{folder}/other"
    if not interrupted(folder, out):
        return
    for options in (["--resize", "short:50"], ["--codec", "jpeg"], ["--part", "1/2"]):
        run(PACK, *command(folder, out, *options), expect=2, says="beginning of another packing.*--force")
    holder = subprocess.Popen([sys.executable, "-c", "import fcntl, os, sys, time\n"
                               "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
                               "print('held', flush=True)\ntime.sleep(1000)", f"{out}/train"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    run(PACK, *command(folder, out), expect=2, says="another csc-pack is writing here")
    holder.kill()
    holder.communicate()
    run(PACK, *command(folder, out, "--resize", "short:50", "--force"), says="made smaller")
    run(PACK, "verify", f"{out}/train")


def test_parts(folder, expected):
    """Packed in parts and merged: the same bytes."""
    for count in (2, 3):
        parts = [f"{folder}/part-{count}-{k}" for k in range(1, count + 1)]
        for k, part in enumerate(parts):
            run(PACK, *command(folder, part, "--part", f"{k + 1}/{count}", "--workers", str(k + 1)))
        run(PACK, "verify", f"{parts[0]}/train")
        out = f"{folder}/merged-{count}"
        run(PACK, "merge", *parts[:-1], out, expect=2, says=f"part {count}/{count} is missing")
        run(PACK, "merge", parts[0], *parts[:-1], out, expect=2, says="are the same part")
        process = subprocess.Popen([PACK, "merge", *rng.sample(parts, count), out], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.communicate()
        if unfinished(out):
            run(PACK, "merge", *rng.sample(parts, count), out)
        check(not made.differences(snapshot(out), expected), count, "parts:", made.differences(snapshot(out), expected))
        run(PACK, "merge", *parts, out, expect=2, says="holds a dataset already")
    run(PACK, "merge", f"{folder}/part-2-1", f"{folder}/part-3-2", f"{folder}/never", expect=2, says="not parts of one packing")
    run(PACK, "merge", f"{folder}/whole", f"{folder}/never", expect=2, says="was not packed with --part")
    run(PACK, *command(folder, f"{folder}/never", "--part", "1/1000"), expect=2, says="too few for so many parts")


def main():
    folder = tempfile.mkdtemp(prefix="csc-resume-")
    try:
        made.imagenet(f"{folder}/in", 4, 80, 150, size=100, seed=SEED)
        begin = time.monotonic()
        run(PACK, *command(folder, f"{folder}/whole", "--workers", "2"), says="320 images")
        seconds = time.monotonic() - begin
        expected = snapshot(f"{folder}/whole")
        check(sum(n.endswith(".csz") for n in expected) > 6, "too few shards", list(expected))
        run(PACK, "verify", f"{folder}/whole/train", "--deep")
        run(PACK, *command(folder, f"{folder}/one", "--workers", "1"))
        check(not made.differences(snapshot(f"{folder}/one"), expected), "one worker gives other bytes than two")
        test_kills(folder, expected, seconds)
        test_damage(folder, expected)
        test_full(folder, expected)
        test_parts(folder, expected)
        test_other(folder)
    finally:
        shutil.rmtree(folder)
    return made.done(f"pack-resume, seed {SEED}")


if __name__ == "__main__":
    sys.exit(main())
