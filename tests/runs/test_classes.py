"""Labels are matched by the names of classes, whatever their numbers in another dataset; accuracies on different images are not
compared.

usage: test_classes.py BUILD_DIR [unittest arguments]
"""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import unittest
import zlib

import runs
from runs import EVAL, PACK, RunTest, launch, main, mpirun

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
import csz  # noqa: E402

CONFIG = """
run: {dir: RUN, log_every: 50}
model: {arch: sdnet18, width: 8}
data: {train: FOLDER/train, val: FOLDER/VAL, augment: none, workers: 1}
train: {epochs: 20, batch: 40, micro_batch: 20, lr: 0.05}
device: {threads: 1}
checkpoint: {keep: 20}
"""
COLOURS = {"apple": (200, 30, 30), "banana": (30, 200, 30), "cherry": (30, 30, 200), "date": (120, 120, 20)}


def write_png(path, colour, seed):
    r = random.Random(seed)
    raw = b"".join(b"\0" + bytes(max(0, min(255, c + r.randint(-30, 30))) for _ in range(16) for c in colour)
                   for _ in range(16))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def rename_classes(folder, names):
    """Renames the classes of a dataset, in their order."""
    path = os.path.join(folder, "index.json")
    with open(path, "rb") as f:
        text = f.read()
    for old, new in names.items():
        text = text.replace(json.dumps(old).encode(), json.dumps(new).encode())
    with open(path, "wb") as f:
        f.write(text[:-20] + f"{csz.xxh64(text[:-20]):016x}".encode() + text[-4:])


def change_state(checkpoint, change):
    """Rewrites `extra` in state.json, and the hashes over it."""
    path, manifest = os.path.join(checkpoint, "state.json"), os.path.join(checkpoint, "MANIFEST")
    with open(path) as f:
        state = json.load(f)
    change(state["extra"])
    text = json.dumps(state).encode()
    with open(path, "wb") as f:
        f.write(text)
    with open(manifest) as f:
        lines = [f"{csz.xxh64(text):016x} {len(text)} state.json\n" if "state.json" in line else line for line in f][:-1]
    with open(manifest, "w") as f:
        f.write("".join(lines) + f"{csz.xxh64(''.join(lines).encode()):016x} MANIFEST\n")


class Classes(RunTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sets = os.path.join(cls.folder, "sets")
        for name, images, classes in (("train", 40, ["apple", "banana", "cherry"]),
                                      ("full", 8, ["apple", "banana", "cherry"]),
                                      ("subset", 8, ["apple", "cherry"]), ("more", 8, ["apple", "cherry", "date"]),
                                      ("order", 8, ["cherry", "apple", "banana"])):
            for k, c in enumerate(classes):
                there = os.path.join(cls.folder, "pictures", name, f"{k}{c}")  # packed in this order
                os.makedirs(there)
                for i in range(images):
                    write_png(os.path.join(there, f"{i}.png"), COLOURS[c], zlib.crc32(f"{name}{c}{i}".encode()))
            subprocess.run([PACK, "imagefolder", os.path.join(cls.folder, "pictures", name), os.path.join(cls.sets, name)],
                           check=True, stdout=subprocess.DEVNULL)
            rename_classes(os.path.join(cls.sets, name), {f"{k}{c}": c for k, c in enumerate(classes)})

    def run_on(self, run, val, *arguments, code=0, ranks=1):
        config = self.path(run + ".yaml")
        with open(config, "w") as f:
            f.write(CONFIG.replace("RUN", self.path(run)).replace("FOLDER", self.sets).replace("VAL", val))
        return self.train(config, *arguments, code=code, ranks=ranks)

    def evaluate(self, path, data, code=0, ranks=1):
        """Returns csc-eval's JSON and its messages."""
        out = self.path("out.json")
        done = subprocess.run([*launch(ranks), EVAL, path, "--data", os.path.join(self.sets, data), "--threads", "1",
                               "--json", out], capture_output=True, text=True, timeout=200)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        with open(out) as f:
            return json.load(f), done.stderr

    def test_by_name(self):
        """On a subset and in another order, training and csc-eval give the same results as on these images among all classes."""
        done = self.run_on("full", "full")
        self.assertNotIn("warning", done.stderr)
        best, said = self.evaluate(self.path("full"), "full")
        self.assertEqual((best["top1"], said), (1, ""))
        for val, words, classes in (("subset", "not all of the network's classes", [8, 0, 8]),
                                    ("order", "the network's classes in another order", [8, 8, 8])):
            with self.subTest(val):
                shutil.rmtree(self.path(val), ignore_errors=True)
                done = self.run_on(val, val, ranks=2 if mpirun() else 1)
                line = "warning: " + os.path.join(self.sets, val) + ": " + words
                self.assertEqual(done.stderr.count(line), 1, done.stderr)
                self.assertEqual(self.metrics(val, "eval")[-1]["top1"], 1)
                got, said = self.evaluate(self.path("full"), val, ranks=2 if mpirun() else 1)
                self.assertEqual(said.count(words), 1, said)
                self.assertEqual([c["name"] for c in got["classes"]], ["apple", "banana", "cherry"])
                self.assertEqual([c["images"] for c in got["classes"]], classes)
                self.assertEqual([got["confusion"][k][k] for k in range(3)], classes)

    def test_unknown_class(self):
        error = self.run_on("unknown", "more", code=2).stderr
        self.assertIn("more: class 2, 'date', is none of the network's 3 classes", error)
        self.assertFalse(os.path.exists(self.path("unknown")))

    def test_older_checkpoint(self):
        """An old checkpoint has no names: they come from its training data, or one warning says that labels are matched by index."""
        self.run_on("older", "full")
        checkpoint = self.path("older", "checkpoints", "step-00000060")
        with open(os.path.join(checkpoint, "state.json")) as f:
            self.assertEqual(json.load(f)["extra"]["classes"], ["apple", "banana", "cherry"])
        change_state(checkpoint, lambda extra: extra.pop("classes"))
        by_name, said = self.evaluate(checkpoint, "order")
        self.assertIn("another order", said)
        train, away = os.path.join(self.sets, "train"), os.path.join(self.sets, "away")
        os.rename(train, away)
        try:
            self.assertNotIn("warning", self.evaluate(checkpoint, "away")[1])  # it is its training data
            by_number, said = self.evaluate(checkpoint, "order", ranks=2 if mpirun() else 1)
            self.assertEqual(said.count("keeps no class names"), 1, said)
            self.assertNotIn("by name", said)
        finally:
            os.rename(away, train)
        self.assertNotEqual(by_name["confusion"], by_number["confusion"])
        change_state(checkpoint, lambda extra: extra.update(classes=["apple", 2]))
        self.assertIn("extra.classes[1]", subprocess.run([EVAL, checkpoint, "--data", os.path.join(self.sets, "full")],
                                                         capture_output=True, text=True, timeout=100).stderr)

    def test_another_validation_set(self):
        """The best accuracy so far was of another set, so neither it nor its checkpoint counts as the best any more."""
        self.run_on("moves", "full", "--stop-after=48", code=75)
        self.assertEqual([m["top1"] for m in self.metrics("moves", "eval")][-1], 1)
        noise = os.path.join(self.folder, "pictures", "noise")
        for c in ("apple", "banana", "cherry"):
            os.makedirs(os.path.join(noise, c))
            for i in range(8):
                write_png(os.path.join(noise, c, f"{i}.png"), (90, 90, 90), i)
        subprocess.run([PACK, "imagefolder", noise, os.path.join(self.sets, "noise")], check=True,
                       stdout=subprocess.DEVNULL)
        done = self.run_on("moves", "noise", "--resume=auto")
        self.assertIn("another validation set: its best top-1, 100.00% at step", done.stdout)
        last = self.metrics("moves", "eval")[-1]
        end = self.metrics("moves", "end")[-1]
        self.assertLess(last["top1"], 1)
        self.assertLess(end["best_top1"], 1)
        self.assertGreater(end["best_step"], 48)
        listed = subprocess.run([runs.TRAIN, "--list-checkpoints", self.path("moves")], capture_output=True, text=True,
                                check=True)
        best = [line for line in listed.stdout.splitlines() if line.startswith("*")]
        self.assertEqual(len(best), 1)
        self.assertGreater(int(best[0].split()[1]), 48)
        self.assertGreater(self.evaluate(self.path("moves"), "full")[0]["step"], 48)


if __name__ == "__main__":
    main()
