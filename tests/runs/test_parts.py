"""A large optimizer state is written by ranks other than 0, in parts: the same bits, and what goes wrong with one part is no
worse than with one file. csc-train-parts takes a state of a few kilobytes for large."""
import os
import re
import resource
import signal
import subprocess
import time
import unittest

import runs
from runs import EVAL, PARTS, TRAIN, RunTest, mpirun

EXTRA = ["run.deterministic=true", "train.ema=0.9"]
EVERY_2 = ["checkpoint.every_steps=2", "checkpoint.every_epochs=0"]


def read(path):
    with open(path) as f:
        return f.read()


@unittest.skipUnless(mpirun(), "no mpirun")
class Parts(RunTest):
    def setUp(self):
        self.program = PARTS

    def files(self, run, step):
        return sorted(n for n in os.listdir(self.checkpoint(run, step, "")) if n.startswith("optimizer"))

    def newest(self, run):
        """The step of the newest checkpoint, 0 if there is none."""
        folder = self.path(run, "checkpoints")
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return max([0] + [int(n[5:]) for n in names if n.startswith("step-")])

    def wait_for(self, job, condition):
        for _ in range(12000):
            if condition():
                return
            self.assertIsNone(job.poll(), "ended early")
            time.sleep(0.01)
        self.fail("waited in vain")

    def same_state(self, run, other, step):
        self.assert_same_file(self.checkpoint(run, step), self.checkpoint(other, step))
        self.assertEqual(self.optimizer(run, step), self.optimizer(other, step))
        self.assertEqual(self.losses(run), self.losses(other))

    def test_same_bits(self):
        """Any number of ranks, changing at every resume, with parts and without."""
        self.program = TRAIN
        self.train(self.config("whole"), *EXTRA)
        self.program = PARTS
        for ranks in (2, 4):
            self.train(self.config(f"parts{ranks}"), *EXTRA, ranks=ranks)
            self.same_state(f"parts{ranks}", "whole", 12)
        self.assertEqual(self.files("parts4", 12), [f"optimizer-0000{i}-of-00003.safetensors" for i in (1, 2, 3)])
        self.assert_same_file(self.checkpoint("parts2", 12, "optimizer.safetensors"),
                              self.checkpoint("whole", 12, "optimizer.safetensors"))
        mixed = self.config("mixed")
        for ranks, program in ((4, PARTS), (2, TRAIN), (1, PARTS)):
            self.program = program
            resume = [] if not os.path.exists(self.path("mixed")) else ["--resume=auto"]
            self.train(mixed, *resume, "--stop-after=3", *EXTRA, ranks=ranks, code=75)
        self.program = PARTS
        self.train(mixed, "--resume=auto", *EXTRA, ranks=4)
        self.same_state("mixed", "whole", 12)
        results = []  # with averages, which lie in the parts
        for run in ("mixed", "whole"):
            out = self.path("eval.json")
            subprocess.run([EVAL, self.path(run), "--json", out, "--threads", "1", "--data", os.path.join(self.data, "val")],
                           check=True, stdout=subprocess.DEVNULL, timeout=120)
            with open(out) as f:
                results.append(runs.json.load(f))
        for key in ("images", "top1", "loss", "layers"):
            self.assertEqual(results[0][key], results[1][key], key)

    def test_damaged_and_missing(self):
        """A changed byte in one part, a short one and a missing one, each in another checkpoint: all three are passed over."""
        config = self.config("run")
        extra = ["train.steps=8", *EXTRA, *EVERY_2]
        self.train(config, *extra, ranks=4)
        whole = self.losses("run")
        self.train("--list-checkpoints", self.path("run"))
        one, two, three = self.files("run", 8)
        with open(self.checkpoint("run", 8, one), "r+b") as f:
            f.seek(-9, os.SEEK_END)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 4]))
        os.truncate(self.checkpoint("run", 6, two), os.path.getsize(self.checkpoint("run", 6, two)) - 1)
        os.remove(self.checkpoint("run", 4, three))
        said = self.train("--list-checkpoints", self.path("run"), code=65).stdout
        done = self.train(config, "--resume=auto", *extra, ranks=2)
        for step, name in ((8, one), (6, two), (4, three)):
            self.assertIn(f"step-0000000{step}/{name}: ", said)
            self.assertIn(f"step-0000000{step}/{name}: ", done.stderr)  # why it was passed over
        self.assertEqual(self.metrics("run", "resume")[-1]["step"], 2)
        self.assertEqual(self.losses("run"), whole)
        self.train("--list-checkpoints", self.path("run"))

    def test_no_room_for_one_part(self):
        """One rank cannot write its part (a limit on the size of a file stands for a full disk): training goes on, says so, and the
        last good checkpoint stays; with room again it recovers."""
        errors = self.path("errors")
        with open(errors, "w") as f:
            job = subprocess.Popen([*runs.launch(4), "sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PARTS, self.config("run"),
                                    "train.steps=1000000", "eval.every_epochs=0", *EVERY_2, "checkpoint.keep=2"],
                                   stdout=subprocess.DEVNULL, stderr=f)
        try:
            self.wait_for(job, lambda: self.newest("run") >= 4)
            rank = self.ranks_of(job.pid)[2]
            before = resource.prlimit(rank, resource.RLIMIT_FSIZE)
            resource.prlimit(rank, resource.RLIMIT_FSIZE, (1000, before[1]))
            said = r"rank 2 failed: .*/optimizer-00002-of-00003\.safetensors: File too large; training continues, the last good"
            self.wait_for(job, lambda: re.search("no checkpoint at step .*" + said, read(errors)))
            self.train("--list-checkpoints", self.path("run"))
            last = self.newest("run")
            resource.prlimit(rank, resource.RLIMIT_FSIZE, before)
            self.wait_for(job, lambda: self.newest("run") > last)
            job.send_signal(signal.SIGUSR1)
            self.assertEqual(job.wait(timeout=120), 75, read(errors))
        finally:
            if job.poll() is None:
                job.kill()
                job.wait()
        self.train("--list-checkpoints", self.path("run"))
        self.assertEqual([n for n in os.listdir(self.path("run", "checkpoints")) if n.startswith(".")], [])

    def test_no_room_at_the_end(self):
        """If the last checkpoint cannot be written, the job fails with one line."""
        job = subprocess.Popen([*runs.launch(2), "sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PARTS, self.config("run"),
                                "train.steps=1000000", "eval.every_epochs=0", "checkpoint.every_epochs=0"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.wait_for_step(job, "run", 5)
        rank = self.ranks_of(job.pid)[1]
        resource.prlimit(rank, resource.RLIMIT_FSIZE, (1000, resource.prlimit(rank, resource.RLIMIT_FSIZE)[1]))
        job.send_signal(signal.SIGUSR1)
        errors = job.communicate(timeout=120)[1]
        self.assertEqual(job.returncode, 74, errors)
        lines = [l for l in errors.splitlines() if "error: " in l]
        self.assertEqual(len(lines), 1, errors)
        self.assertRegex(lines[0], "rank 1.*optimizer.safetensors: File too large")
        self.assertEqual(os.listdir(self.path("run", "checkpoints")), [])

    def test_directory_not_shared(self):
        """A rank that sees another directory under the run's name writes nothing there."""
        config = self.config("run")
        places = [self.path("host0"), self.path("host1")]
        for place in places:
            os.makedirs(place)
        command = runs.launch_each(*(["env", "-C", p, PARTS, config, "run.dir=run", "train.steps=2"] for p in places))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("rank 0 alone writes the checkpoints", done.stdout)
        self.assertEqual(os.listdir(places[1]), [])
        self.train("--list-checkpoints", os.path.join(places[0], "run"))
        self.assertIn("optimizer.safetensors", os.listdir(os.path.join(places[0], "run", "checkpoints", "step-00000002")))


if __name__ == "__main__":
    runs.main()
