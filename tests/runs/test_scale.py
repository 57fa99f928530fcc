"""csc-bench scale: checks what it measures on one and two ranks, and computes its predictions a second time."""
import json
import math
import os
import subprocess
import unittest

import runs
from runs import RunTest, launch, mpirun

BENCH = os.path.join(runs.BUILD, "trainer", "csc-bench")
NODE, NET = (3e-6, 300e9), (5e-6, 45e9)  # latency, bytes/s: the defaults


def ring(link, ranks, n):
    return 0 if ranks == 1 else 2 * (ranks - 1) * (link[0] + n / ranks / link[1])


def allreduce(ranks, n, per_node=8):
    """A ring within the node and a ring between nodes: latencies add up, transfers overlap."""
    inside = min(ranks, per_node)
    nodes = ranks // inside
    latency = ring(NODE, inside, 0) + ring(NET, nodes, 0)
    return latency + max(ring((0, NODE[1]), inside, n), ring((0, NET[1]), nodes, n / inside))


class Scale(RunTest):
    def scale(self, *arguments, ranks=1):
        out = self.path("scale.json")
        subprocess.run(launch(ranks) + [BENCH, "scale", self.config("net"), "--json", out, "--steps", "2", *arguments],
                       check=True, stdout=subprocess.DEVNULL, timeout=300)
        self.assertFalse(os.path.exists(self.path("net")), "a measurement must not create a run")
        with open(out) as f:
            return json.load(f)

    def check_profile(self, result):
        """Buckets and parameters have the same bytes in all, and become ready one after another within the step."""
        for name in ("buckets", "parameters"):
            ready = [b["ready_s"] for b in result[name]]
            self.assertEqual(ready, sorted(ready))
            self.assertTrue(0 < ready[0] and ready[-1] <= result["compute_s"], (name, ready))
        total = [sum(b["bytes"] for b in result[name]) for name in ("buckets", "parameters")]
        self.assertEqual(total[0], total[1])
        self.assertGreater(len(result["parameters"]), len(result["buckets"]))

    def check_row(self, result, row):
        end = delay = 0
        for b in result["buckets"]:  # overlap 1: the link sends one after another
            end = max(end, b["ready_s"]) + allreduce(row["ranks"], b["bytes"])
        step = end + result["compute_s"] - result["buckets"][-1]["ready_s"]
        self.assertAlmostEqual(row["step_s"], step, delta=1e-6 * step)
        self.assertAlmostEqual(row["exposed_s"], step - result["compute_s"], delta=1e-6 * step)
        self.assertAlmostEqual(row["efficiency"], result["compute_s"] / step, delta=1e-6)
        self.assertAlmostEqual(row["img_s"], 8 * row["ranks"] / step, delta=1e-4 * row["img_s"])

    def test_one_rank(self):
        result = self.scale("--algorithm", "ring", "comm.bucket_mb=0.05")
        self.check_profile(result)
        self.assertGreater(len(result["buckets"]), 2)
        self.assertEqual([row["ranks"] for row in result["rows"]], [2 ** k for k in range(13)])
        for row in result["rows"]:
            self.check_row(result, row)
        self.assertEqual(result["measured_s"], 0)

    def test_storage(self):
        """If storage is too slow for the images of many ranks, it alone decides."""
        result = self.scale("--storage-gbs", "0.001")
        bound = [row for row in result["rows"] if row["storage_bound"]]
        self.assertTrue(bound and bound[-1]["ranks"] == 4096)
        for row in bound:
            self.assertAlmostEqual(row["read_bytes_s"], 1e6 - result["checkpoint_bytes"] / 1800, delta=10)

    @unittest.skipUnless(mpirun(), "no mpirun")
    def test_two_ranks(self):
        """Checks that times were measured, not how good they are: the machine may be busy."""
        result = self.scale(ranks=2)
        self.check_profile(result)
        self.assertEqual(result["ranks_here"], 2)
        self.assertGreater(result["measured_s"], 0)
        self.assertGreaterEqual(result["predicted_s"], result["compute_s"])
        self.assertTrue(math.isfinite(result["link_bytes_s"]) and result["link_latency_s"] > 0)

    def test_mistakes(self):
        for arguments, expected in ((["--overlap", "2"], "--overlap"), (["--algorithm", "star"], "ring, tree or best"),
                                (["--link", "measured"], "one rank has no link")):
            done = subprocess.run([BENCH, "scale", self.config("net"), "--steps", "1", *arguments], capture_output=True,
                                  text=True, timeout=300)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertEqual(done.stderr.count(expected), 1, done.stderr)


if __name__ == "__main__":
    runs.main()
