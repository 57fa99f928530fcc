"""csc-bench step and layers: checks that the reports add up and list the operations of the network.

usage: test_bench_step.py BUILD_DIR
"""
import json
import os
import subprocess
import sys
import unittest

BENCH = os.path.join(sys.argv.pop(1), "trainer", "csc-bench")
SMALL = ["--width", "8", "--size", "16", "--batch", "4", "--steps", "2", "--threads", "1"]


def bench(*arguments, code=0):
    done = subprocess.run([BENCH, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}, {done.stderr}"
    return done


def calls(operations, name):
    return sum(o["calls"] for o in operations if o["operation"] == name)


class Bench(unittest.TestCase):
    def traced(self, arch, *more):
        text = bench("step", "--arch", arch, *SMALL, "--trace", "--json", "-", *more).stdout
        return json.loads(text[text.index("\n{") + 1:])

    def test_calls_of_resnet(self):
        r = self.traced("resnet18")
        ops = r["operations"]
        # 17 convolutions and 3 shortcuts; the image needs no gradient
        self.assertEqual([calls(ops, n) for n in ("conv_forward", "conv_adjoint", "conv_gradient", "norm_forward")], [20, 19, 20, 20])
        self.assertEqual(calls(ops, "sgd"), 1)
        self.assertEqual(calls(ops, "normalize_rows"), 0)

    def test_calls_of_sdnet(self):
        ops = self.traced("sdnet18-all")["operations"]
        # a CSC-layer: A^T x, A^T r and A z forward; two A and one A^T backward, without dx one A less, three weight
        # gradients in one call; two power iterations of A and A^T; besides 3 plain shortcuts
        self.assertEqual(calls(ops, "conv_forward"), 17 * (2 + 1 + 2) + 3)
        self.assertEqual(calls(ops, "conv_adjoint"), 17 * (1 + 2 + 2) - 1 + 3)
        self.assertEqual(calls(ops, "conv_gradient of 3"), 17)
        self.assertEqual(calls(ops, "conv_gradient"), 3)
        self.assertEqual(calls(ops, "normalize_rows"), 0)  # sgd does it

    def test_one_step_backward_is_shorter(self):
        ops = self.traced("sdnet18", "--backward", "one-step")["operations"]
        self.assertEqual(calls(ops, "conv_gradient of 2"), 1)

    def test_shares_add_up(self):
        r = self.traced("sdnet18")
        shares = sum(o["share"] for o in r["operations"])
        self.assertGreater(shares, 0.2)
        self.assertLess(shares, 1.0001)
        self.assertAlmostEqual(r["convolutions_share"], sum(o["share"] for o in r["operations"] if o["gflop_s"] > 0), places=6)
        self.assertGreater(r["peak_gflop_s"], 0)
        self.assertGreater(r["memory_mb"], 1)
        self.assertLessEqual(r["least_ms"], r["ms"])
        self.assertAlmostEqual(r["img_s"], 4e3 / r["ms"], delta=1e-5 * r["img_s"])

    def test_layers(self):
        text = bench("layers", "--arch", "resnet18", *SMALL, "--json", "-").stdout
        ops = json.loads(text[text.index("\n[") + 1:])
        shapes = {o["shape"] for o in ops}
        self.assertIn("4x16x16x8, 8 atoms 3x3/1", shapes)
        self.assertEqual(len(shapes), 1 + 1 + 3 * 3)  # stem; stage 1; strided, plain and shortcut of three stages
        for shape in shapes:
            self.assertEqual({o["operation"]: o["calls"] for o in ops if o["shape"] == shape},
                             dict.fromkeys(["conv_load", "conv_forward", "conv_adjoint", "conv_gradient"], 1))

    def test_usage(self):
        self.assertIn("--arch vgg", bench("step", "--arch", "vgg", code=2).stderr)
        self.assertIn("tf32", bench("step", "--precision", "tf32", code=2).stderr)
        self.assertIn("--batch", bench("layers", "--batch", "0", code=2).stderr)
        self.assertIn("nonsense", bench("step", "nonsense", code=2).stderr)

    def test_bf16_runs_or_says_why_not(self):
        done = subprocess.run([BENCH, "step", *SMALL, "--precision", "bf16"], capture_output=True, text=True, timeout=300)
        if done.returncode == 2:
            self.assertIn("no bf16 instructions", done.stderr)
        else:
            self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
