"""The shipped batch files on a real SLURM: time limit, requeue, preemption, a node killed, each to the end without a human,
with the weights of the undisturbed run.

usage: test_slurm.py BUILD_DIR [unittest arguments]

A job is frozen (SIGSTOP) in mid-run until what is to disturb it has arrived, so that nothing depends on the machine's speed.
"""
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

import hosts

hosts.enter(["slurmctld", "slurmd", "munged", "srun", "sbatch", "scontrol", "scancel", "mpirun"])
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "runs"))
import runs  # noqa: E402
from cluster import Cluster  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BATCH_FILES = os.path.join(ROOT, "scripts", "slurm")
STEPS = 200
EXTRA = [f"train.steps={STEPS}", "run.deterministic=true", "checkpoint.every_epochs=0",
         "checkpoint.every_steps=10", "checkpoint.keep=2", "comm.timeout_s=7200"]
MPIRUN = "mpirun --bind-to none --oversubscribe"
SLOW = int(os.environ.get("SLOW", 600))


class Batch(runs.RunTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.configuration = runs.CONFIG.replace(", val: DATA/val", "")
        os.environ["PATH"] = os.pathsep.join([BATCH_FILES, os.path.dirname(runs.TRAIN), os.environ["PATH"]])
        os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
        cls.cluster = Cluster(4)
        cls.jobs = {}
        probe = cls("undisturbed")
        probe.undisturbed()
        # Submitted now, since SLURM looks at time limits only twice a minute.
        probe.disturb_by_time_limit("limit", "one-node.sbatch")
        probe.disturb_by_time_limit("chain", "chain.sbatch", "--array=1-9%1")

    # ---- what the tests are made of ----

    def undisturbed(self):
        self.train(self.config("undisturbed", self.configuration), *EXTRA)

    def submit(self, run, batch_file, *options, launch=None, arguments=()):
        """options: of sbatch. A new job on two ranks; its log is RUN.log."""
        config = self.config(run, self.configuration)
        front = ["--launch", launch] if launch else []
        job = self.cluster.submit("--output", self.path(run + ".log"), *options, os.path.join(BATCH_FILES, batch_file),
                                  *front, config, *EXTRA, *arguments, cwd=self.folder)
        self.jobs[run] = job
        return job

    def log(self, run):
        try:
            with open(self.path(run + ".log")) as f:
                return "".join(line for line in f if not line.startswith("epoch "))
        except FileNotFoundError:
            return ""

    def wait_for(self, run, condition, what, seconds=SLOW):
        try:
            self.cluster.wait_for(condition, seconds, f"{run}: {what}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- log of {run}\n{self.log(run)}") from None

    def last_step(self, run):
        try:
            return max([0] + list(self.losses(run)))
        except (OSError, ValueError):
            return 0

    def has_checkpoint(self, run):
        """Whether one is complete: they are written in the background and get their name last."""
        try:
            return any(name.startswith("step-") for name in os.listdir(self.path(run, "checkpoints")))
        except FileNotFoundError:
            return False

    def freeze(self, run):
        """In mid-run, after a checkpoint; False if it was over before that."""
        until = time.monotonic() + SLOW
        while self.last_step(run) < 13 or not self.has_checkpoint(run):
            if time.monotonic() > until:
                self.wait_for(run, lambda: False, "a checkpoint and some steps", 0)
            time.sleep(0.02)
        self.signal(run, signal.SIGSTOP)
        return self.last_step(run) < STEPS

    def submit_and_freeze(self, run, *arguments, **options):
        """Again, should the run have been over too soon."""
        for _ in range(5):
            job = self.submit(run, *arguments, **options)
            if self.freeze(run):
                return
            self.signal(run, signal.SIGCONT)
            self.wait_for(run, lambda: self.cluster.job(job, "EndTime") != "Unknown", "its end")
            subprocess.run(["scancel", job], check=False)
        self.fail(f"{run}: {STEPS} steps are too few to be caught in the middle")

    def signal(self, run, number):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/exe") == runs.TRAIN:
                    with open(f"/proc/{pid}/cmdline") as f:
                        if self.path(run + ".yaml") in f.read():
                            os.kill(int(pid), number)
            except OSError:
                pass

    def thaw_when_asked(self, run):
        """Goes on as soon as the batch shell has been asked to stop."""
        def wait():
            while "asking the ranks for a checkpoint" not in self.log(run):
                time.sleep(0.2)
            self.signal(run, signal.SIGCONT)
        threading.Thread(target=wait, daemon=True).start()

    def disturb_by_time_limit(self, run, batch_file, *options):
        self.submit_and_freeze(run, batch_file, "--nodes=1", "--ntasks=2", "--ntasks-per-node=2", "--cpus-per-task=1",
                               "--time=1", "--signal=B:USR1@40", "--nodelist=h4", *options)
        self.thaw_when_asked(run)

    def assert_undisturbed(self, run, resumed=True):
        """Done, having been interrupted, with the weights and losses of the run that was not."""
        self.wait_for(run, lambda: self.last_step(run) == STEPS, "the last step")
        self.wait_for(run, lambda: self.metrics(run)[-1]["event"] == "end", "its end")
        self.assertEqual(self.metrics(run)[-1]["status"], "done")
        if resumed:
            self.assertTrue(self.metrics(run, "resume"), self.log(run))
        for name in ("model.safetensors", "optimizer.safetensors"):
            self.assert_same_file(self.checkpoint(run, STEPS, name), self.checkpoint("undisturbed", STEPS, name))
        self.assertEqual(self.losses(run), self.losses("undisturbed"))

    def assert_completed(self, run):
        self.wait_for(run, lambda: self.cluster.job(self.jobs[run], "JobState") == "COMPLETED", "completed")

    # ---- the tests, in the order of their names ----

    def test_killed_node_of_the_batch_shell(self):
        self.submit_and_freeze("shell", "nodes.sbatch", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1",
                               "--exclude=h4")
        self.killed_node("shell", "h1")

    def test_killed_node_of_ranks_only(self):
        self.submit_and_freeze("ranks", "nodes.sbatch", "--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1",
                               "--exclude=h3,h4", launch=MPIRUN)
        self.killed_node("ranks", "h2")

    def killed_node(self, run, node):
        self.cluster.kill_node(node)
        self.signal(run, signal.SIGCONT)
        self.wait_for(run, lambda: self.cluster.job(self.jobs[run], "Restarts") != "0", "requeued")
        self.cluster.revive_node(node)
        self.assert_undisturbed(run)
        self.assert_completed(run)

    def test_preempted(self):
        self.submit_and_freeze("preempted", "one-node.sbatch", "--ntasks=4", "--cpus-per-task=1", "--nodelist=h1")
        urgent = self.cluster.submit("--partition=urgent", "--nodelist=h1", "--ntasks=4", "--output=/dev/null",
                                     "--wrap", "exec sleep 1", cwd=self.folder)
        self.thaw_when_asked("preempted")
        self.wait_for("preempted", lambda: self.cluster.job(urgent, "JobState") == "COMPLETED", "the urgent job is done")
        self.assert_undisturbed("preempted")
        self.assert_completed("preempted")
        self.assertIn("USR1", self.log("preempted"))

    def test_requeued_by_the_operator(self):
        self.submit_and_freeze("requeued", "nodes.sbatch", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1")
        subprocess.run(["scontrol", "requeue", self.jobs["requeued"]], check=True)
        self.signal("requeued", signal.SIGCONT)
        self.assert_undisturbed("requeued")
        self.assert_completed("requeued")

    def test_requeued_under_mpirun(self):
        self.submit_and_freeze("mpirun", "one-node.sbatch", "--ntasks=2", "--cpus-per-task=1", launch=MPIRUN)
        subprocess.run(["scancel", "--batch", "--signal=USR1", self.jobs["mpirun"]], check=True)
        self.thaw_when_asked("mpirun")
        self.assert_undisturbed("mpirun")
        self.assert_completed("mpirun")
        self.assertIn("stopped with a checkpoint", self.log("mpirun"))

    def test_time_limit(self):
        self.assert_undisturbed("limit")
        self.assert_completed("limit")
        self.assertIn("USR1", self.log("limit"))
        self.assertIn("stopped with a checkpoint", self.log("limit"))

    def test_time_limit_of_a_chain(self):
        self.assert_undisturbed("chain")
        array = self.jobs["chain"]
        self.wait_for("chain", lambda: not self.cluster.queued(array), "nothing of it is queued or running")
        self.assertIn("the rest of the chain is cancelled", self.log("chain"))
        self.assertLess(self.log("chain").count("stopped with a checkpoint"), 8)

    def test_wrapped(self):
        """sbatch --wrap, asked to stop before csc-train has begun."""
        config = self.config("wrapped", self.configuration)
        command = f"exec csc-slurm {config} " + " ".join(EXTRA)
        self.jobs["wrapped"] = self.cluster.submit("--output", self.path("wrapped.log"), "--ntasks=2", "--requeue",
                                                   "--open-mode=append", "--wrap", command, cwd=self.folder)
        self.wait_for("wrapped", lambda: self.cluster.job(self.jobs["wrapped"], "JobState") == "RUNNING", "running")
        while subprocess.run(["scancel", "--batch", "--signal=USR1", self.jobs["wrapped"]]).returncode:
            time.sleep(0.1)
        self.assert_undisturbed("wrapped", resumed=False)
        self.assert_completed("wrapped")

    def test_wrong_configuration(self):
        """Fails with one line, and is not tried again."""
        self.submit("wrong", "one-node.sbatch", "--ntasks=2", "--cpus-per-task=1", arguments=["train.lr=-1"])
        self.wait_for("wrong", lambda: self.cluster.job(self.jobs["wrong"], "JobState") == "FAILED", "refused")
        self.assertEqual(self.cluster.job(self.jobs["wrong"], "ExitCode"), "2:0", self.log("wrong"))
        self.assertEqual(self.cluster.job(self.jobs["wrong"], "Restarts"), "0")
        self.assertEqual(sum("train.lr" in line for line in self.log("wrong").splitlines()), 1, self.log("wrong"))


if __name__ == "__main__":
    runs.main()
