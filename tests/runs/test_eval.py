"""csc-eval on a small trained network: the same results for any number of ranks, corruptions, published sets, lambda, attacks.

usage: test_eval.py BUILD_DIR [unittest arguments]
"""
import json
import os
import struct
import subprocess
import unittest

import runs
from runs import EVAL, PACK, RunTest, launch, main, mpirun

CONFIG = """
run: {dir: RUN, log_every: 50}
model: {arch: sdnet18, width: 4}
data: {train: DATA/train, val: DATA/val, augment: none, workers: 1}
train: {steps: 60, batch: 32, micro_batch: 16, lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 5e-4}
device: {threads: 1}
checkpoint: {keep: 1, every_epochs: 0}
"""


def write_npy(path, shape, data, descr="|u1"):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)


class Eval(RunTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = os.path.join(cls.folder, "data32")  # CIFAR-10-C's size
        subprocess.run([PACK, "synth", cls.data, "--images", "200", "--classes", "5", "--size", "32"], check=True,
                       stdout=subprocess.DEVNULL)
        cls.run_folder = os.path.join(cls.folder, "run")
        config = os.path.join(cls.folder, "run.yaml")
        with open(config, "w") as f:
            f.write(CONFIG.replace("RUN", cls.run_folder).replace("DATA", cls.data))
        subprocess.run([runs.TRAIN, config], check=True, stdout=subprocess.DEVNULL, timeout=300)
        cls.checkpoint_path = os.path.join(cls.run_folder, "checkpoints", sorted(os.listdir(
            os.path.join(cls.run_folder, "checkpoints")))[-1])

    def evaluate(self, *arguments, data="val", ranks=1, code=0):
        """The JSON of csc-eval, or its error message if `code` is not 0."""
        out = self.path("out.json")
        done = subprocess.run(launch(ranks) + [EVAL, self.checkpoint_path, "--data",
                                               data if data.startswith("/") else os.path.join(self.data, data),
                                               "--threads", "1", "--json", out, *arguments],
                              capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        if code:
            return done.stderr
        if "--fit-lambda" in arguments:
            return done.stdout
        with open(out) as f:
            return json.load(f)

    @staticmethod
    def timeless(value):
        if isinstance(value, dict):
            return {k: Eval.timeless(v) for k, v in value.items() if k != "seconds"}
        return [Eval.timeless(v) for v in value] if isinstance(value, list) else value

    def test_results_are_consistent(self):
        got = self.evaluate("--batch", "7")
        matrix = got["confusion"]
        self.assertEqual(sum(map(sum, matrix)), 40)
        self.assertEqual(sum(matrix[k][k] for k in range(5)), round(40 * got["top1"]))
        for k, entry in enumerate(got["classes"]):
            self.assertEqual(entry["images"], sum(matrix[k]))
        low, high = got["top1_interval"]
        self.assertTrue(low < got["top1"] < high or got["top1"] in (low, high))
        self.assertTrue(0 <= got["calibration_error"] <= 1)
        limited = self.evaluate("--limit", "13")
        self.assertEqual(sum(map(sum, limited["confusion"])), 13)

    @unittest.skipIf(mpirun() is None, "no mpirun")
    def test_any_number_of_ranks(self):
        arguments = ["--batch", "4", "--limit", "30", "--lambda", "0.1", "--lambda", "0.3", "--corruption", "shot_noise:3",
                     "--attack", "pgd:eps=2/255,steps=3", "--attack", "square:eps=4/255,queries=8", "--no-checks"]
        one = self.evaluate(*arguments)
        three = self.evaluate(*arguments, ranks=3)
        self.assertEqual(self.timeless(one), self.timeless(three))
        self.assertEqual(len(one["results"]), 4)

    def test_corruption_is_seeded(self):
        loss = [self.evaluate("--corruption", "gaussian_noise:5", "--seed", seed)["results"][1]["loss"] for seed in "112"]
        self.assertEqual(loss[0], loss[1])
        self.assertNotEqual(loss[0], loss[2])

    @staticmethod
    def images_of():
        """Ten images of 32x32."""
        return bytes((i * 7919 + (i >> 5) * 31) % 256 for i in range(10 * 32 * 32 * 3))

    def test_cifar10_c(self):
        folder = self.path("cifar10-c")
        os.makedirs(folder, exist_ok=True)
        pixels = self.images_of()
        write_npy(os.path.join(folder, "fog.npy"), (50, 32, 32, 3), pixels * 5)
        write_npy(os.path.join(folder, "brightness.npy"), (50, 32, 32, 3), pixels * 4 + pixels[::-1])
        write_npy(os.path.join(folder, "labels.npy"), (50,), struct.pack("<50q", *(list(range(5)) * 10)), "<i8")
        got = self.evaluate("--suite", "cifar10-c", data=folder)
        names = [(r["corruption"], r["severity"]) for r in got["results"]]
        self.assertEqual(names, [(n, s) for n in ("brightness", "fog") for s in range(1, 6)])
        loss = [r["loss"] for r in got["results"]]
        self.assertEqual(len({*loss[:4], *loss[5:]}), 1)  # the same images
        self.assertNotEqual(loss[4], loss[3])
        self.assertEqual(got["corrupted"][0]["sets"], 10)
        if mpirun():
            self.assertEqual(self.timeless(self.evaluate("--suite", "cifar10-c", data=folder, ranks=2)), self.timeless(got))
        os.truncate(os.path.join(folder, "fog.npy"), 5000)
        self.assertIn("fog.npy", self.evaluate("--suite", "cifar10-c", data=folder, code=65))

    def test_imagenet_c(self):
        try:
            from PIL import Image
        except ImportError:
            self.skipTest("no Pillow")
        folder, part = self.path("imagenet-c"), self.path("imagenet-c-part")
        with open(os.path.join(self.data, "train", "index.json")) as f:
            names = json.load(f)["classes"]
        for severity in range(1, 6):
            for label, name in enumerate(names):
                for there in [folder] + [part] * (label != 0):
                    there = os.path.join(there, "noise", "fog", str(severity), name)
                    os.makedirs(there)
                    Image.new("RGB", (40, 32), (50 * label, 40 * severity, 9)).save(os.path.join(there, "a.png"))
        got = self.evaluate("--suite", "imagenet-c", data=folder)
        self.assertEqual([r["images"] for r in got["results"]], [5] * 5)
        self.assertEqual(len({r["loss"] for r in got["results"]}), 5)
        # without the first class the other images keep their labels, so the results differ only by that class
        some = self.evaluate("--suite", "imagenet-c", data=part)
        self.assertEqual([c["images"] for c in some["classes"]], [0, 1, 1, 1, 1])
        self.assertEqual(some["confusion"][1:], got["confusion"][1:])
        os.makedirs(os.path.join(folder, "noise", "fog", "3", "n00000009"))
        self.evaluate("--suite", "imagenet-c", data=folder, code=65)  # a class without an image
        Image.new("RGB", (40, 32)).save(os.path.join(folder, "noise", "fog", "3", "n00000009", "a.png"))
        self.assertIn("'n00000009'", self.evaluate("--suite", "imagenet-c", data=folder, code=2))

    def test_lambda(self):
        sweep = self.evaluate("--lambda", "0.1:0.5:3")["results"]
        self.assertEqual([round(r["lambda"], 6) for r in sweep], [0.1, 0.3, 0.5])
        plain = self.evaluate()
        self.assertEqual(sweep[0]["loss"], plain["loss"])  # the training lambda
        self.assertNotEqual(sweep[1]["loss"], plain["loss"])
        self.assertIn("--fit-lambda", self.evaluate("--lambda", "adaptive", code=2))
        self.assertIn("validation images", self.evaluate("--fit-lambda", code=2))
        text = self.evaluate("--fit-lambda", "--limit", "32", data="train")
        self.assertIn("lambda(x) =", text)
        rule_path = self.checkpoint_path + ".lambda.json"
        with open(rule_path) as f:
            rule = json.load(f)
        self.assertEqual(len(rule["points"]), 11)
        residuals = [p["residual"] for p in rule["points"]]
        self.assertLess(residuals[0], residuals[-1])  # the codes leave noise out
        self.assertAlmostEqual(rule["intercept"] + rule["slope"] * residuals[0], 0.1)  # clean images keep the training lambda
        adaptive = self.evaluate("--lambda", "adaptive", "--corruption", "gaussian_noise:5")
        self.assertEqual([r["lambda"] for r in adaptive["results"]], ["adaptive"] * 2)
        # a line of slope 0 gives every image the same lambda
        rule.update(intercept=0.3, slope=0.0)
        with open(rule_path, "w") as f:
            json.dump(rule, f)
        self.assertEqual(self.evaluate("--lambda", "adaptive")["loss"], sweep[1]["loss"])
        rule["weights"] = "0" * 16
        with open(rule_path, "w") as f:
            json.dump(rule, f)
        self.assertIn("other weights", self.evaluate("--lambda", "adaptive", code=65))
        os.unlink(rule_path)

    def test_attacks(self):
        specs = ["pgd:eps=0,steps=1", "pgd:eps=1/255,steps=5", "pgd:eps=8/255", "pgd:norm=l2,eps=1,steps=10",
                 "apgd-ce:eps=8/255,steps=15", "apgd-t:eps=8/255,steps=8", "square:eps=8/255,queries=60"]
        got = self.evaluate(*(a for s in specs for a in ("--attack", s)), "--no-checks", "--limit", "24",
                            data="train")  # the training images, which the network classifies correctly
        top1 = [a["top1"] for a in got["attacks"]]
        self.assertEqual(top1[0], got["top1"])  # a ball of radius 0
        self.assertLessEqual(top1[2], top1[1])
        self.assertLess(top1[2], got["top1"])
        self.assertTrue(all(t <= got["top1"] for t in top1))

    def test_checks_run(self):
        got = self.evaluate("--attack", "pgd:eps=8/255,steps=4,step=4/255", "--limit", "8")
        self.assertIsInstance(got["warnings"], list)
        # a step of size 0 acts as a masked gradient: queries are stronger, and an unbounded eps changes nothing
        weak = self.evaluate("--attack", "pgd:eps=16/255,steps=1,step=0", "--limit", "24", data="train")
        self.assertTrue(any("masked gradients" in w for w in weak["warnings"]), weak["warnings"])

    def test_usage(self):
        for arguments, word in ((["--corruption", "fog:1"], "gaussian_noise"), (["--lambda", "-1"], "--lambda"),
                                (["--lambda", "1:2:1"], "--lambda"), (["--attack", "cw"], "pgd"), (["--layers", "layer9"], "layer9"),
                                (["--suite", "cifar"], "cifar10-c"), (["--limit", "0"], "--limit"),
                                (["--suite", "cifar10-c", "--attack", "pgd"], "--suite")):
            self.assertIn(word, self.evaluate(*arguments, code=2))


if __name__ == "__main__":
    main()
