"""A SLURM cluster for a test: munged, slurmctld and one slurmd per host of hosts.py, without systemd or cgroups."""
import os
import shutil
import signal
import subprocess
import tempfile
import time

from hosts import Hosts, sh

CONF = """
ClusterName=test
SlurmctldHost=ctl(10.77.0.254)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
TmpFS={folder}/tmp-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
KillWait={kill_wait}
JobRequeue=1
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=120
MessageTimeout=30
InactiveLimit=0
MinJobAge=86400
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
{nodes}
{partitions}
"""


class Cluster(Hosts):
    """Partitions: batch (all hosts), urgent (all hosts; takes them from batch), one for each host. 4 cores a host."""

    def __init__(self, count, kill_wait=20):
        super().__init__(count)
        self.folder = tempfile.mkdtemp(prefix="slurm-")
        os.chmod(self.folder, 0o755)
        everyone = ",".join(self.names)
        nodes = [f"NodeName={name} NodeHostname={name} NodeAddr={self.address(name)} CPUs=4 RealMemory=1000 State=UNKNOWN"
                 for name in self.names]
        partitions = [f"PartitionName=batch Nodes={everyone} Default=YES PriorityTier=1 GraceTime={kill_wait}",
                      f"PartitionName=urgent Nodes={everyone} PriorityTier=2 PreemptMode=OFF"]
        self.conf = os.path.join(self.folder, "slurm.conf")
        with open(self.conf, "w") as f:
            f.write(CONF.format(folder=self.folder, kill_wait=kill_wait, nodes="\n".join(nodes),
                                partitions="\n".join(partitions)))
        os.environ["SLURM_CONF"] = self.conf
        self.start_munge()
        os.mkdir(os.path.join(self.folder, "state"))
        sh(f"slurmctld -c -f {self.conf}")
        for name in self.names:
            self.start_slurmd(name)
        self.wait_for(lambda: all(self.node_state(n) == "IDLE" for n in self.names), 120, "all nodes idle")

    def start_munge(self):
        at = os.path.join(self.folder, "munge")
        with open(at + ".key", "wb") as f:
            f.write(os.urandom(128))
        os.chmod(at + ".key", 0o600)
        sh(f"munged --force --key-file={at}.key --socket={at}.socket --pid-file={at}.pid --log-file={at}.log "
           f"--seed-file={at}.seed")

    def start_slurmd(self, name):
        """With empty folders: SLURM's PMIx does not start where a killed step of the same number left its socket."""
        for place in ("spool", "tmp"):
            folder = os.path.join(self.folder, f"{place}-{name}")
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder)
        subprocess.run(self.command(name, "slurmd", "-N", name, "-f", self.conf), check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def wait_for(self, condition, seconds, what):
        """seconds: far more than it takes on a quiet machine."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if condition():
                return
            time.sleep(0.2)
        raise AssertionError(f"not in {seconds} s: {what}\n{self.describe()}")

    def describe(self):
        """For the log of a failed test."""
        parts = []
        for command in ("sinfo", "squeue --states=all", f"tail -n 40 {self.folder}/slurmctld.log",
                        f"tail -n 10 {self.folder}/slurmd-*.log"):
            done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            parts.append(f"--- {command}\n{done.stdout}")
        return "\n".join(parts)

    def node_state(self, name):
        done = subprocess.run(["sinfo", "-h", "-p", "batch", "-n", name, "-o", "%T"], capture_output=True, text=True)
        return done.stdout.strip().upper()

    def submit(self, *arguments, cwd):
        done = subprocess.run(["sbatch", "--parsable", *arguments], capture_output=True, text=True, cwd=cwd)
        if done.returncode:
            raise AssertionError("sbatch: " + done.stderr)
        return done.stdout.strip()

    def job(self, job, field):
        done = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True)
        for word in done.stdout.split():
            if word.startswith(field + "="):
                return word[len(field) + 1:]
        return None

    def queued(self, job):
        """What of a job or an array is waiting, running or completing."""
        return subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True).stdout

    def kill_node(self, name):
        """As if its power had gone: nothing on it lives on, nothing answers."""
        self.link(name, "down")
        for _ in range(10):
            for pid in self.processes(name):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def revive_node(self, name):
        self.link(name, "up")
        self.start_slurmd(name)
