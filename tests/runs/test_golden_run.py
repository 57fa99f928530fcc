"""csc-pack and csc-train, as a user runs them, against the golden steps: weights after one step, and csc-eval's logits.
Skipped where ../shared/golden is not there (CSC_SHARED names another place)."""
import json
import os
import subprocess
import unittest

import runs
from runs import RunTest, read_safetensors, relative_error

GOLDEN = os.path.join(runs.SHARED, "golden")


@unittest.skipUnless(os.path.isdir(GOLDEN), "no golden steps here")
class GoldenRun(RunTest):
    def test_steps(self):
        loose = 0
        for case in sorted(os.listdir(GOLDEN)):
            folder = os.path.join(GOLDEN, case)
            if os.path.isdir(folder):
                with self.subTest(case):
                    error = self.one(case, folder)
                    print(f"{case}: change of the weights off by {error:.1e}")
                    loose += error >= 1e-4
        self.assertLessEqual(loose, 2)

    def one(self, case, folder):
        with open(os.path.join(folder, "expect.json")) as f:
            e = json.load(f)
        data = self.path(case + "-data")
        subprocess.run([runs.PACK, "cifar10", folder, data], check=True, stdout=subprocess.DEVNULL)
        yes = lambda value: "true" if value else "false"
        text = f"""
run: {{dir: RUN, log_every: 1}}
model: {{arch: {e["arch"]}, width: {e["width"]}, shortcut: {yes(e["shortcut"])}, init_from: {folder}/init.safetensors}}
csc: {{lambda: {e["lam"]}, mu: {e["mu"]}, steps: {e["fista_steps"]}, step_size: {e["eta"] or "auto"}}}
data: {{train: {data}/train, augment: none, shuffle: false}}
train: {{steps: 1, batch: {e["batch"]}, lr: {e["lr"]}, momentum: {e["momentum"]}, nesterov: {yes(e["nesterov"])},
  weight_decay: {e["weight_decay"]}, schedule: {{kind: constant}}}}
"""
        self.train(self.config(case, text))
        loss = self.losses(case)[1]
        automatic = e["eta"] is None and e["arch"].startswith("sdnet")
        self.assertLess(abs(loss / e["loss"] - 1), 1e-4 if automatic else 1e-5)
        error = relative_error(read_safetensors(self.checkpoint(case, 1)),
                               read_safetensors(os.path.join(folder, "after.safetensors")),
                               read_safetensors(os.path.join(folder, "init.safetensors")))
        self.assertLess(error, 1e-1)
        return error


if __name__ == "__main__":
    runs.main()
