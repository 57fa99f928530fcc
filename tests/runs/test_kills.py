"""kill -9 of a rank or of mpirun at random moments, the writing of checkpoints included, until the run is done: the final
weights are those of an undisturbed run, bit for bit, no damaged checkpoint is trusted, there are never two writers, and
nothing is left behind.

usage: test_kills.py BUILD_DIR [KILLS [SEED]]     KILLS (default 4) restarts at least, on two ranks, and as many on four
"""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

arguments = sys.argv[2:]
sys.argv[2:] = []
import runs  # noqa: E402  takes BUILD_DIR
from runs import RunTest, mpirun  # noqa: E402

KILLS = int(arguments[0]) if arguments else 4
SEED = int(arguments[1]) if len(arguments) > 1 else random.randrange(1 << 30)


@unittest.skipUnless(mpirun(), "no mpirun")
class Kills(RunTest):
    RANKS, STEPS = 2, 25  # steps for each kill
    EXTRA = ["eval.every_epochs=0", "checkpoint.every_epochs=0", "checkpoint.every_steps=2", "checkpoint.keep=2"]

    def leftovers(self):
        """What this program, or Open MPI for it, has left in /dev/shm and /tmp."""
        names = [n for n in os.listdir("/dev/shm") + os.listdir("/tmp") if n.startswith("csc-train")]
        return [n for n in names if n not in self.before] + os.listdir(self.scratch)

    def last_step(self, run):
        """From the end of the file only: this is asked often."""
        try:
            with open(self.path(run, "metrics.jsonl"), "rb") as f:
                f.seek(max(0, f.seek(0, os.SEEK_END) - 4096))
                found = re.findall(rb'"event":"(?:step|resume)"[^\n]*?"step":(\d+)', f.read())
            return int(found[-1]) if found else 0
        except OSError:
            return 0

    def rank_processes(self, job):
        try:
            return list(self.ranks_of(job.pid).values())
        except (OSError, ValueError):
            return []

    def gone(self, pids):
        """mpirun's ranks end by themselves once it is gone; until then they may still write."""
        for _ in range(6000):
            if not any(os.path.exists(f"/proc/{p}") for p in pids):
                return
            time.sleep(0.01)
        self.fail("ranks outlive mpirun")

    def disturbed(self, dice, config, steps):
        """One start that is killed after some steps, or is done. Returns whether it ended by itself, and what was killed."""
        before = self.last_step("parts")
        target = before + dice.randrange(1, 10)
        job = subprocess.Popen(self.command(config, "--resume=auto", f"train.steps={steps}", *self.EXTRA, ranks=self.RANKS),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env=dict(os.environ, TMPDIR=self.scratch))
        early = dice.random() < 0.15  # while it starts
        if early:
            time.sleep(dice.random())
        while not early and job.poll() is None and self.last_step("parts") < target:
            time.sleep(0.002)
        if dice.random() < 0.5:  # as soon as a checkpoint is being written
            folder = self.path("parts", "checkpoints")
            for _ in range(400):
                if job.poll() is not None or (os.path.isdir(folder) and any(n.startswith(".tmp-") for n in os.listdir(folder))):
                    break
                time.sleep(0.0005)
        time.sleep(dice.random() * 0.02)
        pids = self.rank_processes(job)
        victim = dice.choice([job.pid, *pids])
        done = job.poll() is not None
        if not done:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                pass
        errors = self.errors_of(job, pids)
        self.gone(pids)
        if done:
            self.assertEqual(job.returncode, 0, errors)
        return done and job.returncode == 0

    def errors_of(self, job, pids):
        """What a job told until it was over. Open MPI 4.1's mpirun now and then hangs in PMIx's finalisation after all its ranks
        have ended; then it is ended too."""
        try:
            return job.communicate(timeout=120 + 10 * KILLS)[1]
        except subprocess.TimeoutExpired:
            self.assertFalse([p for p in pids if self.alive(p)], "ranks outlive a killed one")
            print("mpirun hangs without ranks", flush=True)
            job.kill()
            return job.communicate()[1]

    @staticmethod
    def alive(pid):
        try:
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rpartition(")")[2].split()[0] not in "ZX"
        except FileNotFoundError:
            return False

    def check_damage(self):
        """Every checkpoint that has its final name is whole."""
        if os.path.isdir(self.path("parts", "checkpoints")):
            self.train("--list-checkpoints", self.path("parts"))

    def check_writers(self):
        """Steps ascend between two starts and every line is whole, so nobody else wrote in between."""
        last = None
        with open(self.path("parts", "metrics.jsonl")) as f:
            for line in f:
                m = json.loads(line)
                if m["event"] == "start":
                    last = 0
                elif m["event"] == "resume":
                    self.assertLessEqual(m["step"], last)
                    last = m["step"]
                elif m["event"] == "step":
                    self.assertEqual(m["step"], last + 1)
                    last = m["step"]

    def test_kills(self):
        dice = random.Random(SEED)
        print(f"seed {SEED}, {KILLS} kills", flush=True)
        self.scratch = tempfile.mkdtemp(dir=self.folder)
        self.before = os.listdir("/dev/shm") + os.listdir("/tmp")  # another program's, or of a test that was ended
        steps = self.STEPS * KILLS
        whole, parts = self.config("whole"), self.config("parts")
        subprocess.run(self.command(whole, f"train.steps={steps}", "eval.every_epochs=0", "checkpoint.every_epochs=0",
                                    ranks=self.RANKS), check=True, stdout=subprocess.DEVNULL, timeout=600 + 10 * KILLS)
        kills, again = 0, 5
        while kills < KILLS:
            if self.disturbed(dice, parts, steps):  # sooner than thought: what was left to do is done
                if kills or not again:
                    break
                again -= 1
                shutil.rmtree(self.path("parts"))
                continue
            kills += 1
            self.check_damage()
            if kills % 10 == 0:
                print(f"{kills} kills, step {self.last_step('parts')}", flush=True)
        print(f"{kills} kills in {self.last_step('parts')} steps", flush=True)
        self.assertGreaterEqual(kills, 1)
        subprocess.run(self.command(parts, "--resume=auto", f"train.steps={steps}", *self.EXTRA, ranks=self.RANKS), check=True,
                       stdout=subprocess.DEVNULL, timeout=600 + 10 * KILLS)
        self.assert_same_file(self.checkpoint("whole", steps), self.checkpoint("parts", steps))
        self.assertEqual(self.optimizer("whole", steps), self.optimizer("parts", steps))
        self.assertEqual(self.losses("whole"), self.losses("parts"))
        self.check_writers()
        self.assertEqual([n for n in os.listdir(self.path("parts", "checkpoints")) if not re.fullmatch(r"step-\d{8}", n)], [])
        self.assertFalse(os.path.exists(self.path("parts", "lock")))
        self.assertEqual([n for n in self.leftovers() if n.startswith("csc-train")], [])


class KillsOfFour(Kills):
    RANKS, STEPS = 4, 12


if __name__ == "__main__":
    runs.main()
