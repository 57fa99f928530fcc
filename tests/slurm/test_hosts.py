"""Open MPI over three hosts and TCP, six ranks: trains, resumes, and ends with one clear line when a host's link goes down.

usage: test_hosts.py BUILD_DIR [unittest arguments]
"""
import os
import re
import signal
import subprocess
import sys
import time
import unittest

import hosts

hosts.enter(["mpirun"])
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "runs"))
import runs  # noqa: E402

STEPS = 60
TIMEOUT = 30  # comm.timeout_s: nobody is starved for so long
SLOW = 600    # seconds that only a machine in trouble needs
AGENT = """#!/bin/sh
# In the place of ssh: AGENT HOST COMMAND
host=$1
shift
exec nsenter --net=/run/netns/$host unshare --uts sh -c "hostname $host; $*"
"""


class ThreeHosts(runs.RunTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
        cls.hosts = hosts.Hosts(3)
        cls.agent = os.path.join(cls.folder, "agent")
        with open(cls.agent, "w") as f:
            f.write(AGENT)
        os.chmod(cls.agent, 0o755)
        cls.configuration = runs.CONFIG.replace(", val: DATA/val", "").replace("batch: 32", "batch: 48").replace(
            "steps: 12", f"steps: {STEPS}")

    def command(self, config, *arguments, ranks=6):
        network = hosts.NETWORK + ".0/24"
        return ["mpirun", "-np", str(ranks), "--host", "h1:2,h2:2,h3:2", "--bind-to", "none",
                "--mca", "plm", "rsh", "--mca", "plm_rsh_agent", self.agent, "--mca", "btl", "self,vader,tcp",
                "--mca", "btl_tcp_if_include", network, "--mca", "oob_tcp_if_include", network, "-x", "OMP_NUM_THREADS",
                runs.TRAIN, config, "run.deterministic=true", "checkpoint.every_steps=5", *arguments]

    def train(self, config, *arguments, code=0):
        done = subprocess.run(self.command(config, *arguments), capture_output=True, text=True, timeout=SLOW)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def trained_like(self, run, whole):
        for name in ("model.safetensors", "optimizer.safetensors"):
            self.assert_same_file(self.checkpoint(run, STEPS, name), self.checkpoint(whole, STEPS, name))
        self.assertEqual(self.losses(run), self.losses(whole))

    def until(self, condition, what):
        end = time.monotonic() + SLOW
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.05)

    def last_step(self, run):
        try:
            return max([0] + list(self.losses(run)))
        except (OSError, ValueError):
            return 0

    def ranks(self):
        """pid -> host of every csc-train that runs."""
        found = {}
        for name in self.hosts.names:
            for pid in self.hosts.processes(name):
                try:
                    if os.readlink(f"/proc/{pid}/exe") == runs.TRAIN:
                        found[pid] = name
                except OSError:
                    pass
        return found

    def test_hosts(self):
        whole, parts = self.config("whole", self.configuration), self.config("parts", self.configuration)
        out = self.train(whole)
        self.assertIn("6 ranks", out)
        self.train(parts, "--stop-after=23", code=75)
        self.train(parts, "--resume=auto")
        self.trained_like("parts", "whole")
        self.link_down(self.config("cut", self.configuration), "--resume=auto", f"comm.timeout_s={TIMEOUT}")
        self.train(os.path.join(self.folder, "cut.yaml"), "--resume=auto")
        self.trained_like("cut", "whole")

    def link_down(self, *arguments):
        """h3 cut off in mid-run, which stands still for that."""
        job = subprocess.Popen(self.command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.until(lambda: self.last_step("cut") >= 8 or job.poll() is not None, "some steps")
        for pid in self.ranks():
            os.kill(pid, signal.SIGSTOP)
        ranks = self.ranks()
        self.assertEqual(sorted(ranks.values()), ["h1", "h1", "h2", "h2", "h3", "h3"])
        self.assertLess(self.last_step("cut"), STEPS)
        self.hosts.link("h3", "down")
        start = time.monotonic()
        for pid in ranks:
            os.kill(pid, signal.SIGCONT)
        self.until(lambda: not self.ranks(), "the ranks end")
        print(f"{time.monotonic() - start:.1f} s after the link went down all ranks had ended", file=sys.stderr)
        self.hosts.link("h3", "up")  # mpirun waits for its daemon there until its own TCP gives up
        _, errors = job.communicate(timeout=SLOW)
        self.assertNotEqual(job.returncode, 0, errors)
        told = [line for line in errors.splitlines()  # h3 has its own view of who is gone
                if re.search(r"error: rank [45] on h3( \(and 1 more\))? hangs", line)]
        self.assertEqual(len(told), 1, errors)
        self.assertIn("its node or link is down", told[0])


if __name__ == "__main__":
    runs.main()
