"""Tensors of another shape with as many values: every reader of weights refuses them and names the tensor and both shapes.

usage: test_shapes.py BUILD_DIR [unittest arguments]
"""
import json
import os
import shutil
import struct
import subprocess
import sys

import runs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
import csz  # noqa: E402


def change(path, name, **fields):
    """Sets fields of a tensor's entry in the header of a safetensors file: its shape or dtype. Its bytes stay."""
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        body = f.read()
    header[name].update(fields)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def seal(checkpoint):
    """Writes MANIFEST anew, as if csc-train had written the files as they are now."""
    with open(os.path.join(checkpoint, "MANIFEST")) as f:
        lines = f.read().splitlines()[:-1]
    for i, line in enumerate(lines[1:], 1):
        name = line.split(" ")[-1]
        with open(os.path.join(checkpoint, name), "rb") as f:
            data = f.read()
        lines[i] = f"{csz.xxh64(data):016x} {len(data)} {name}"
    text = "".join(line + "\n" for line in lines)
    with open(os.path.join(checkpoint, "MANIFEST"), "w") as f:
        f.write(text + f"{csz.xxh64(text.encode()):016x} MANIFEST\n")


class Shapes(runs.RunTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_steps = ["train.steps=1", "train.ema=0.5", "data.val=none"]

    def setUp(self):
        self.yaml = self.config("run")
        self.train(self.yaml, *self.run_steps)

    def changed(self, file, name, **fields):
        change(self.checkpoint("run", 1, file), name, **fields)
        seal(self.checkpoint("run", 1, "").rstrip("/"))

    def refuses(self, command, *words):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 65, done.stdout + done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def resumes(self):
        return self.command(self.yaml, "--resume=auto", *self.run_steps)

    def evaluates(self):
        return [runs.EVAL, self.path("run"), "--data", self.data + "/val"]

    def test_as_written(self):
        seal(self.checkpoint("run", 1, "").rstrip("/"))
        self.train(self.yaml, "--resume=auto", *self.run_steps)
        self.assertEqual(subprocess.run(self.evaluates(), capture_output=True, timeout=300).returncode, 0)

    def test_weights(self):
        """load_model_weights: at a resume, in csc-eval, and from model.init_from."""
        self.changed("model.safetensors", "linear.weight", shape=[32, 4])
        words = ["'linear.weight' is 32x4", "network's is 4x32"]
        self.refuses(self.resumes(), *words)
        self.refuses(self.evaluates(), *words)
        weights = self.checkpoint("run", 1)
        shutil.copy(weights, self.path("w.safetensors"))
        self.refuses(self.command(self.config("new"), "model.init_from=" + self.path("w.safetensors")), *words)

    def test_running_statistics(self):
        self.changed("model.safetensors", "layer0.1.running_mean", shape=[2, 2])
        self.refuses(self.evaluates(), "'layer0.1.running_mean' is 2x2", "network's is 4")

    def test_momentum(self):
        self.changed("optimizer.safetensors", "momentum.linear.weight", shape=[32, 4])
        self.refuses(self.resumes(), "'momentum.linear.weight' is 32x4", "network's is 4x32")

    def test_power_iteration(self):
        shape = self.optimizer("run", 1)["power.layer0.0"][0]
        self.changed("optimizer.safetensors", "power.layer0.0", shape=shape[::-1])
        self.refuses(self.resumes(), "'power.layer0.0' is 3x16x16", "network's is 16x16x3")

    def test_step_size(self):
        self.changed("optimizer.safetensors", "eta.layer0.0", shape=[1])
        self.refuses(self.resumes(), "'eta.layer0.0' is 1", "network's is a scalar")

    def test_averages(self):
        """Read by csc-eval and, at a resume, by csc-train."""
        self.changed("optimizer.safetensors", "ema.linear.bias", shape=[2, 2])
        self.refuses(self.evaluates(), "'ema.linear.bias' is 2x2", "network's is 4")
        self.refuses(self.resumes(), "'ema.linear.bias' is 2x2", "network's is 4")

    def test_type(self):
        shape = self.optimizer("run", 1)["ema.linear.weight"][0]
        self.changed("optimizer.safetensors", "ema.linear.weight", dtype="F64", shape=[shape[0], shape[1] // 2])
        self.refuses(self.evaluates(), "'ema.linear.weight' is F64, F32 is needed")


if __name__ == "__main__":
    runs.main()
