"""gpu_check_machine.py - finds the GPU, CUDA's libraries and their versions for scripts/gpu-check."""
import ctypes
import glob
import json
import os
import re
import shutil
import signal
import site
import subprocess
import sys

GIVEN_PATH = os.environ.get("LD_LIBRARY_PATH", "")

# for each library the function that gives its version: as its result, or through one or two pointers
VERSIONS = """
import ctypes, json
found = {}
def ask(name, libraries, function, pointers):
    for library in libraries:
        try:
            call = getattr(ctypes.CDLL(library), function)
        except (OSError, AttributeError):
            continue
        values = [ctypes.c_int() for _ in range(pointers)]
        if not pointers:
            call.restype = ctypes.c_size_t
        result = call(*map(ctypes.byref, values))
        found[name] = ".".join(str(v.value) for v in values) if pointers else str(result)
        return
    found[name] = "not found"
ask("CUDA of the driver", ["libcuda.so.1"], "cuDriverGetVersion", 1)
ask("cuDNN", ["libcudnn.so.9"], "cudnnGetVersion", 0)
ask("NVRTC", ["libnvrtc.so.13", "libnvrtc.so.12"], "nvrtcVersion", 2)
ask("cuBLASLt", ["libcublasLt.so.13", "libcublasLt.so.12"], "cublasLtGetVersion", 0)
ask("NCCL", ["libnccl.so.2"], "ncclGetVersion", 1)
print(json.dumps(found))
"""


def die_with_parent():
    """To be called in a forked process: it ends when gpu-check is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def asked(command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                              check=False)
        return done.stdout.strip() if done.returncode == 0 else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""


def lacks_libraries(program):
    """Whether a library of the program is missing or lacks a function that it calls."""
    done = subprocess.run(["ldd", "-r", program], capture_output=True, text=True, check=False)
    return any(words in done.stdout + done.stderr for words in ("not found", "undefined symbol"))


def gpu():
    """Name and driver of the first GPU; empty if there is none."""
    if not shutil.which("nvidia-smi"):
        return "", ""
    lines = asked(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]).splitlines()
    name, _, driver = (lines[0] if lines else "").partition(",")
    return name.strip(), driver.strip()


def library_folders(given):
    """Folders that may have CUDA's libraries: the given one, the machine's CUDA, PyTorch's packages."""
    sites = [*site.getsitepackages(), site.getusersitepackages(), *(p for p in sys.path if p.endswith("-packages"))]
    folders = [given] if given else []
    folders += sorted(glob.glob("/usr/local/cuda*/lib64") + glob.glob("/usr/local/cuda*/lib"))
    folders += [f for s in sites for f in sorted(glob.glob(s + "/nvidia/*/lib") + glob.glob(s + "/torch/lib"))]
    folders.append("/usr/lib/x86_64-linux-gnu")
    return [f for i, f in enumerate(folders) if os.path.isdir(f) and f not in folders[:i]]


def find_libraries(given, program):
    """Sets LD_LIBRARY_PATH, with a folder that has cuDNN first. Returns what is missing, or None."""
    folders = library_folders(given)
    cudnn = next((f for f in folders if os.path.exists(f + "/libcudnn.so.9")), None)
    if not cudnn:
        return "libcudnn.so.9 is in none of the usual places: install cuDNN 9 or PyTorch, or give --lib=FOLDER"
    there = os.environ.get("LD_LIBRARY_PATH")
    os.environ["LD_LIBRARY_PATH"] = ":".join([cudnn, *(f for f in folders if f != cudnn), *([there] if there else [])])
    for line in asked(["ldd", program]).splitlines():
        if "not found" in line:
            name = line.split()[0]
            return f"{name} is in none of the usual places: install CUDA's libraries or PyTorch, or give --lib=FOLDER"
    return None


def versions(name, driver, program):
    found = {"GPU": name or "none", "driver": driver or "none"}
    try:
        found.update(json.loads(asked([sys.executable, "-c", VERSIONS])))
    except ValueError:
        found["versions"] = "unknown"
    found["program"] = asked([program, "--version"]) or "none"
    found["cores"] = str(len(os.sched_getaffinity(0)))
    return found


def keep_plans(report, given, name, cudnn):
    """Lets the programs keep the plans that they measure in the report. Given plans are put into the file that
    csc-train and csc-bench look for on this GPU."""
    cache = os.path.join(report, "cache")
    os.makedirs(os.path.join(cache, "csc-train"), exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = cache
    if given:
        safe = re.sub("[^A-Za-z0-9]", "-", name)[:63]
        shutil.copy(given, os.path.join(cache, "csc-train", f"plans-{safe}-cudnn{cudnn}.txt"))
