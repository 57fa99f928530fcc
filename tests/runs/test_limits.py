"""What a container, a batch system or OpenMP's variables leave to a process: limits of control groups (version 1, made here as
root; version 2's files are in test_base.c), OMP_PLACES and its like, and too many threads."""
import glob
import os
import subprocess
import unittest

import runs
from runs import EVAL, PACK, TRAIN, RunTest, mpirun

BENCH = os.path.join(runs.BUILD, "trainer", "csc-bench")
BINDING = {"OMP_PROC_BIND": "spread", "OMP_PLACES": "threads"}


class Group:
    """A control group of our own below /sys/fs/cgroup/CONTROLLER with these files."""

    def __init__(self, test, controller, files):
        self.path = f"/sys/fs/cgroup/{controller}/csc-test-{os.getpid()}"
        try:
            os.mkdir(self.path)
            test.addCleanup(os.rmdir, self.path)
            for name, value in files.items():
                self.write(name, value)
        except OSError as e:
            test.skipTest(f"no control group of version 1 can be made here: {e}")

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(str(value))

    def enter(self):
        self.write("cgroup.procs", os.getpid())


class Limits(RunTest):
    def ends(self, command, code, group=None, **environment):
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, preexec_fn=group and group.enter,
                              env={**{k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}, **environment})
        self.assertEqual(done.returncode, code, f"{command} {done.stdout} {done.stderr}")
        return done.stdout + done.stderr

    def threads(self, *arguments, **options):
        text = self.ends([TRAIN, self.config("run"), "device.threads=auto", "data.workers=auto", "--print-config", *arguments],
                         0, **options)
        return int([line.split()[1] for line in text.splitlines() if line.startswith("  threads:")][0])

    def test_memory_of_a_group(self):
        """With too little memory every program says so and ends with 71 before it is killed. A little more than needed suffices."""
        group = Group(self, "memory", {"memory.limit_in_bytes": 150 << 20})
        large = ["model.width=64", "train.batch=120", "train.micro_batch=120", "data.val=none"]
        self.assertIn("are available: lower train.micro_batch", self.ends([TRAIN, self.config("run"), *large], 71, group))
        self.assertIn("are available", self.ends([TRAIN, self.config("run"), *large, "--dry-run"], 71, group))
        self.assertIn("are available", self.ends([TRAIN, self.config("run"), *large], 71, group))
        step = [BENCH, "step", "--width", "64", "--batch", "120", "--steps", "1"]
        self.assertIn("control group", self.ends(step, 71, group))
        config = self.config("small")
        self.ends([TRAIN, config, "train.steps=2"], 0, group)
        self.ends([EVAL, self.path("small"), "--data", os.path.join(self.data, "val")], 0, group)
        self.assertIn("control group", self.ends([EVAL, self.path("small"), "--data", os.path.join(self.data, "train"),
                                                  "--batch", "4096"], 71, group))

    def test_processor_time_of_a_group(self):
        whole = len(os.sched_getaffinity(0))
        group = Group(self, "cpu", {})
        for quota, expected in ((160000, 2), (100000, 1), (50000, 1)):
            group.write("cpu.cfs_quota_us", quota)
            self.assertEqual(self.threads(group=group), min(whole, expected))
        said = self.ends([TRAIN, self.config("run"), "train.steps=1", "device.threads=2"], 0, group)
        self.assertIn("2 compute threads of 1 rank share 0.5 cores", said)

    def test_openmp_places(self):
        """OpenMP's run-time binds the main thread before main: neither the count nor the workers take that for the mask."""
        whole = len(os.sched_getaffinity(0))
        self.assertEqual(self.threads(**BINDING), whole)
        self.assertEqual(self.threads(OMP_PROC_BIND="true"), whole)
        self.assertEqual(self.threads(GOMP_CPU_AFFINITY=" ".join(str(c) for c in os.sched_getaffinity(0))), whole)
        first = min(os.sched_getaffinity(0))
        self.assertEqual(self.threads(OMP_PLACES="{%d}" % first), 1)
        said = self.ends([TRAIN, self.config("run"), "train.steps=1", "device.threads=2"], 0, OMP_PLACES="{%d}" % first)
        self.assertIn(f"OMP_PLACES leaves 1 of {whole} cores to 2 compute threads", said)
        said = self.ends([TRAIN, self.config("run"), "train.steps=1", "device.threads=2"], 0, **BINDING)
        self.assertNotIn("warning", said)

    @unittest.skipUnless(os.environ.get("CSC_OPENMP", "1") == "1", "built without OpenMP")
    @unittest.skipUnless(len(os.sched_getaffinity(0)) > 1, "one core only")
    def test_threads_of_bound_programs(self):
        """OpenMP's threads lie on all cores, also after the program has started itself again, and loaders are not bound."""
        config = self.config("bound")
        environment = {**{k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}, **BINDING}
        job = subprocess.Popen([TRAIN, config, "train.steps=1000000", "eval.every_epochs=0", "checkpoint.every_epochs=0",
                                "device.threads=2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            self.wait_for_step(job, "bound", 1)
            masks = {}
            for task in glob.glob(f"/proc/{job.pid}/task/*"):
                with open(task + "/comm") as f:
                    masks.setdefault(f.read().strip(), set()).add(frozenset(os.sched_getaffinity(int(os.path.basename(task)))))
            self.assertEqual(masks["csc-loader"], {frozenset(os.sched_getaffinity(0))})
            bound = [m for name in masks if not name.startswith("csc-") for m in masks[name] if len(m) == 1]
            self.assertEqual(len(bound), 2, masks)
        finally:
            job.kill()
            job.communicate()

    @unittest.skipUnless(mpirun(), "no mpirun")
    def test_ranks_bound_to_the_same_cores(self):
        said = self.ends(self.command(self.config("run"), "train.steps=1", ranks=2), 0, **BINDING)
        self.assertEqual(said.count("binds the threads of all 2 ranks of this host to the same cores"), 1, said)

    def test_too_many_threads(self):
        self.assertIn("device.threads", self.ends([TRAIN, self.config("run"), "device.threads=1025"], 2))
        self.assertIn("device.threads", self.ends([TRAIN, self.config("run"), "device.threads=2048"], 2))
        self.ends([TRAIN, self.config("run"), "device.threads=1024", "--print-config"], 0)
        self.ends([TRAIN, self.config("many"), "train.steps=1"], 0)
        for program in ([EVAL, self.path("many"), "--data", self.data + "/val", "--threads", "2048"],
                        [BENCH, "step", "--threads", "2048"], [PACK, "verify", self.data + "/val", "--workers", "2048"]):
            self.assertIn("1024", self.ends(program, 2))


if __name__ == "__main__":
    runs.main()
