"""csc-eval and csc-viz on an emulated GPU give the CPU's results: accuracy, lambda, corruptions, attacks, pictures.

usage: test_emulated_eval.py BUILD_DIR [unittest arguments]
"""
import json
import os
import shutil
import struct
import subprocess

import runs
from runs import RunTest, launch, main, mpirun, read_safetensors

CONFIG = """
run: {dir: RUN, log_every: 50}
model: {arch: ARCH, width: 8}
data: {train: DATA/train, val: DATA/val, augment: none, workers: 1}
train: {steps: 30, batch: 32, micro_batch: 16, lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 5e-4, ema: 0.5}
device: {kind: cpu, threads: 1}
checkpoint: {keep: 1, every_epochs: 0}
"""
EVAL, VIZ = ({"cpu": os.path.join(runs.BUILD, "trainer", name),
              "cuda": os.path.join(runs.BUILD, "tests", "runs", name + "-emulated")}
             for name in ("csc-eval", "csc-viz"))


class EmulatedEval(RunTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.environ["XDG_CACHE_HOME"] = os.path.join(cls.folder, "cache")
        cls.checkpoints = {}
        cls.train_images, cls.val_images = (os.path.join(cls.data, name) for name in ("train", "val"))
        for arch in ("sdnet18", "sdnet18-all"):
            path = os.path.join(cls.folder, arch + ".yaml")
            run = os.path.join(cls.folder, arch)
            with open(path, "w") as f:
                f.write(CONFIG.replace("RUN", run).replace("ARCH", arch).replace("DATA", cls.data))
            subprocess.run([runs.TRAIN, path], check=True, stdout=subprocess.DEVNULL, timeout=300)
            cls.checkpoints[arch] = os.path.join(run, "checkpoints", "step-00000030")

    def run_program(self, program, *arguments, ranks=1, code=0, **environment):
        done = subprocess.run([*launch(ranks), program, *map(str, arguments)], capture_output=True, text=True,
                              timeout=300, env={**os.environ, **environment})
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def assert_near(self, want, got, tolerance, where=""):
        """Checks that two results have the same structure, and numbers that differ only by rounding."""
        if isinstance(want, dict):
            self.assertEqual(want.keys(), got.keys(), where)
            for key in want.keys() - {"seconds", "device", "precision"}:
                self.assert_near(want[key], got[key], tolerance, f"{where}.{key}")
        elif isinstance(want, list):
            self.assertEqual(len(want), len(got), where)
            for i, (a, b) in enumerate(zip(want, got)):
                self.assert_near(a, b, tolerance, f"{where}[{i}]")
        elif isinstance(want, float):
            self.assertAlmostEqual(want, got, delta=tolerance * max(1, abs(want)), msg=where)
        else:
            self.assertEqual(want, got, where)

    def evaluate(self, kind, *arguments, arch="sdnet18", data=None, **more):
        out = self.path("out.json")
        self.run_program(EVAL[kind], self.checkpoints[arch], "--data", data or self.val_images, "--device", kind,
                         "--threads", 1, "--json", out, *arguments, **more)
        with open(out) as f:
            got = json.load(f)
        self.assertEqual(got["device"], kind)
        return got

    def compare(self, *arguments, tolerance=1e-4, **more):
        want, got = (self.evaluate(kind, *arguments, **more) for kind in ("cpu", "cuda"))
        self.assert_near(want, got, tolerance)
        return got

    def test_accuracy_and_logits(self):
        for arch in self.checkpoints:
            with self.subTest(arch=arch):
                logits = {}
                for kind in ("cpu", "cuda"):
                    got = self.evaluate(kind, "--logits", self.path(kind), "--batch", 7, arch=arch)
                    self.assertTrue(got["averaged_weights"])
                    logits[kind] = read_safetensors(self.path(kind))["logits"][1]
                worst = max(abs(a - b) for a, b in zip(logits["cpu"], logits["cuda"]))
                self.assertLess(worst, 1e-3)
                self.compare("--batch", 7, arch=arch)

    def test_bf16(self):
        want, got = self.evaluate("cpu"), self.evaluate("cuda", "--precision", "bf16")
        self.assertEqual((want["precision"], got["precision"]), ("fp32", "bf16"))
        self.assertAlmostEqual(want["loss"], got["loss"], delta=0.05)
        self.assertNotEqual(want["loss"], got["loss"])

    def test_lambda_and_corruption(self):
        got = self.compare("--lambda", "0.1:0.3:2", "--corruption", "gaussian_noise:3", "--layers", "all",
                           arch="sdnet18-all")
        self.assertEqual(len(got["results"]), 4)

    def test_adaptive_lambda(self):
        rule_path, rules = self.checkpoints["sdnet18"] + ".lambda.json", {}
        for kind in ("cpu", "cuda"):
            self.run_program(EVAL[kind], self.checkpoints["sdnet18"], "--data", self.train_images, "--device", kind,
                             "--fit-lambda", "--limit", 12)
            with open(rule_path) as f:
                rules[kind] = json.load(f)
        self.assert_near(rules["cpu"], rules["cuda"], 1e-4)
        rules["cpu"]["slope"] = 0.5  # so that lambda differs between images
        with open(rule_path, "w") as f:
            json.dump(rules["cpu"], f)
        self.compare("--lambda", "adaptive", "--corruption", "gaussian_noise:5", "--attack", "pgd:eps=2/255,steps=2",
                     "--no-checks", "--limit", 12, tolerance=0.1)
        done = self.run_program(EVAL["cuda"], self.checkpoints["sdnet18"], "--data", self.val_images, "--lambda",
                                "adaptive", "--precision", "bf16", code=2)
        self.assertIn("fp32", done.stderr)
        os.unlink(rule_path)

    def test_attacks(self):
        specs = ["pgd:eps=1/255,steps=3", "pgd:norm=l2,eps=0.5,steps=3", "apgd-ce:eps=1/255,steps=4",
                 "apgd-t:eps=1/255,steps=2", "square:eps=2/255,queries=5"]
        got = self.compare(*(a for spec in specs for a in ("--attack", spec)), "--no-checks", "--limit", 12,
                           data=self.train_images, tolerance=0.1)  # one image may be close to the decision boundary
        self.assertEqual(len(got["attacks"]), 5)
        self.assertLess(min(a["top1"] for a in got["attacks"]), got["top1"])

    def test_suite(self):
        folder = self.path("cifar10-c")
        os.makedirs(folder, exist_ok=True)
        pixels, labels = bytes(i * 7919 % 251 for i in range(20 * 3072)), struct.pack("<20q", *[0, 1, 2, 3] * 5)
        for name, descr, shape, data in (("fog", "|u1", (20, 32, 32, 3), pixels), ("labels", "<i8", (20,), labels)):
            header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
            header += b" " * (-(len(header) + 11) % 64) + b"\n"
            with open(os.path.join(folder, name + ".npy"), "wb") as f:
                f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)
        self.run_program(runs.PACK, "synth", self.path("data32"), "--images", 40, "--classes", 4, "--size", 32)
        config = self.path("run32.yaml")
        with open(config, "w") as f:
            text = CONFIG.replace("RUN", self.path("run32")).replace("ARCH", "sdnet18")
            f.write(text.replace("DATA", self.path("data32")))
        self.run_program(runs.TRAIN, config, "train.steps=2")
        self.checkpoints["run32"] = self.path("run32", "checkpoints", "step-00000002")
        got = self.compare("--suite", "cifar10-c", arch="run32", data=folder)
        self.assertEqual(len(got["results"]), 5)
        del self.checkpoints["run32"]

    def test_ranks_take_their_gpus(self):
        if not mpirun():
            self.skipTest("no MPI")
        arguments = ["--batch", 4, "--attack", "pgd:eps=1/255,steps=2", "--no-checks"]
        one = self.evaluate("cuda", *arguments)
        for gpus in ("1", "2"):
            two = self.evaluate("cuda", *arguments, ranks=2, CSC_FAKE_GPUS=gpus)
            self.assert_near(one, two, 0)

    def test_auto(self):
        """auto is a GPU if there is one, otherwise the CPU; the line about it goes to standard error if JSON goes to standard output."""
        for program, arguments in ((EVAL, []), (VIZ, ["--out", self.path("auto"), "--limit", 1, "--images", 1])):
            for gpus, device, lines in (("1", "cuda", 0), ("0", "cpu", 1)):
                done = self.run_program(program["cuda"], self.checkpoints["sdnet18"], "--data", self.val_images,
                                        "--json", "-", *arguments, CSC_FAKE_GPUS=gpus)
                self.assertEqual(json.loads(done.stdout)["device"], device)
                self.assertEqual(done.stderr.count("device.kind is auto: using the CPU, since"), lines, done.stderr)
            done = self.run_program(program["cuda"], self.checkpoints["sdnet18"], "--data", self.val_images,
                                    "--device", "cuda", *arguments, CSC_FAKE_GPUS="0", code=2)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertIn("use cpu", done.stderr)

    def test_pictures(self):
        """Compares reconstructions from the first layer and from deep ones, denoising, and the figures of the layers."""
        for arch, options in (("sdnet18", []), ("sdnet18-all", ["--steps", 5, "--lambda", 0.05])):
            with self.subTest(arch=arch):
                numbers = {}
                for kind in ("cpu", "cuda"):
                    out = self.path("pictures")
                    shutil.rmtree(out, ignore_errors=True)
                    done = self.run_program(VIZ[kind], self.checkpoints[arch], "--data", self.val_images, "--out", out,
                                            "--images", 4, "--limit", 8, "--threads", 1, "--json", "-",
                                            "--device", kind, *options)
                    numbers[kind] = json.loads(done.stdout)
                    self.assertEqual(numbers[kind]["device"], kind)
                    self.assertIn("report.html", os.listdir(out))
                self.assert_near(numbers["cpu"], numbers["cuda"], 1e-3)


if __name__ == "__main__":
    main()
