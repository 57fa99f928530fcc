"""Several hosts on one machine: network and host-name namespaces on a bridge, inside a process namespace of their own.

enter() starts the test again inside; when it ends, however it ends, the kernel ends every process in there and takes the
namespaces, mounts and files away. So nothing can be left, and two such tests cannot meet.
    ctl 10.77.0.254 (this process)    h1 10.77.0.1    h2 10.77.0.2    ...
"""
import os
import shutil
import subprocess
import sys

INSIDE = "CSC_TEST_HOSTS"
NETWORK = "10.77.0"
UNSHARE = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]


def skip(reason):
    print("skipped:", reason)
    sys.exit(77)


def sh(command):
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: exit code {done.returncode}: {done.stdout}")
    return done.stdout


def enter(programs):
    """Returns inside only. Exits 77 where a program or the right to make namespaces is missing."""
    if os.environ.get(INSIDE):
        private_places()
        return
    if os.geteuid() != 0:
        skip("namespaces for hosts need root")
    for program in ["unshare", "nsenter", "ip", *programs]:
        if not shutil.which(program):
            skip(f"no {program}")
    trial = "ip link set lo up && ip link add br0 type bridge && ip link add v0 type veth peer name v1 && " \
            "mount -t tmpfs none /dev/shm && hostname ctl"
    tried = subprocess.run([*UNSHARE, "sh", "-c", trial], capture_output=True, text=True)
    if tried.returncode:
        skip("namespaces are not allowed here: " + tried.stderr.strip().replace("\n", "; "))
    sys.stdout.flush()
    os.environ[INSIDE] = "1"
    # A shell as the first process, since that one has to wait for orphans.
    os.execvp(UNSHARE[0], [*UNSHARE, "bash", "-c", '"$@" & wait $!; exit $?', "bash", sys.executable, *sys.argv])


def private_places():
    """Own /run/netns and /dev/shm, and a folder for temporary files that goes with them."""
    folder = os.path.join(os.environ.get("TMPDIR", "/tmp"), "csc-hosts")
    os.makedirs(folder, exist_ok=True)
    os.makedirs("/run/netns", exist_ok=True)
    for place in (folder, "/run/netns", "/dev/shm"):
        sh(f"mount -t tmpfs -o mode=1777 none {place}")
    os.environ["TMPDIR"] = folder


class Hosts:
    """names: h1, h2 ...; processes on one: Hosts.command(name, ...)."""

    def __init__(self, count):
        self.names = [f"h{k + 1}" for k in range(count)]
        sh("hostname ctl && ip link set lo up && ip link add br0 type bridge && ip link set br0 up && "
           f"ip addr add {NETWORK}.254/24 dev br0")
        for k, name in enumerate(self.names):
            sh(f"ip netns add {name} && ip link add {name} type veth peer name eth0 netns {name} && "
               f"ip link set {name} master br0 up && ip -n {name} link set lo up && ip -n {name} link set eth0 up && "
               f"ip -n {name} addr add {self.address(name)}/24 dev eth0")
        hosts = os.path.join(os.environ["TMPDIR"], "hosts")
        with open(hosts, "w") as f:
            f.write(f"127.0.0.1 localhost\n{NETWORK}.254 ctl\n")
            f.writelines(f"{self.address(name)} {name}\n" for name in self.names)
        sh(f"mount --bind {hosts} /etc/hosts")

    def address(self, name):
        return f"{NETWORK}.{name[1:]}"

    def command(self, name, *command):
        """Not `ip netns exec`, which mounts another /sys."""
        return ["nsenter", f"--net=/run/netns/{name}", "unshare", "--uts", "sh", "-c",
                f'hostname {name} && exec "$@"', "sh", *command]

    def link(self, name, state):
        sh(f"ip link set {name} {state}")

    def processes(self, name):
        """Of everything that runs on it."""
        inode = os.stat(f"/run/netns/{name}").st_ino
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat(f"/proc/{pid}/ns/net").st_ino == inode:
                    found.append(int(pid))
            except OSError:
                pass
        return found
