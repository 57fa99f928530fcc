"""The documentation's own command for ImageNet, `mpirun -np 32 csc-train imagenet.yaml`, on small images: the program
is found in $PATH, the configuration in $CSC_CONFIG_DIR, the data below the working folder."""
import os
import subprocess
import unittest

import runs
from runs import PACK, TRAIN, RunTest, mpirun

CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "configs")
SMALL = ["imagenet.yaml", "model.width=8", "data.image_size=32", "train.steps=3",
         "train.schedule.warmup_epochs=1"]


class ImageNet(RunTest):
    def setUp(self):
        subprocess.run([PACK, "synth", "datasets/imagenet", "--images", "2100", "--size", "36", "--classes", "5"],
                       check=True, cwd=self.folder, stdout=subprocess.DEVNULL)

    def launch(self, ranks, *arguments):
        """csc-train imagenet.yaml on so many ranks."""
        env = {**os.environ, "PATH": os.path.dirname(TRAIN) + ":" + os.environ["PATH"], "CSC_CONFIG_DIR": CONFIGS}
        done = subprocess.run([*runs.launch(ranks), "csc-train", *SMALL, *arguments], capture_output=True, text=True,
                              timeout=600, cwd=self.folder, env=env)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    @unittest.skipUnless(mpirun(), "no mpirun")
    def test_32_ranks(self):
        """All ranks work, one of them reports, and the results are those of one process."""
        out = self.launch(32)
        self.assertEqual(out.count("32 ranks x"), 1, out)
        self.assertEqual(self.metrics("runs/imagenet", "start")[0]["ranks"], 32)
        self.assertEqual(len(self.metrics("runs/imagenet", "end")), 1)
        self.launch(1, "run.name=alone")
        one, many = self.metrics("runs/alone", "step")[-1], self.metrics("runs/imagenet", "step")[-1]
        self.assertEqual((one["step"], many["step"]), (3, 3))
        self.assertAlmostEqual(one["loss"], many["loss"], delta=1e-3 * one["loss"])
        self.assertEqual(self.metrics("runs/imagenet", "eval")[-1]["images"], 420)


if __name__ == "__main__":
    runs.main()
