"""gpu_check_parts.py - the parts of scripts/gpu-check. Each takes the check, gives it figures, and raises Failed or
Skipped. Its docstring is its line in --help."""
import json
import os
import shutil

import gpu_check_feed
import gpu_check_machine
import gpu_check_plans
from gpu_check_report import operation_cost, card_rates, step_roofline

NETWORKS = {"resnet18": "unrolled", "sdnet18": "unrolled", "sdnet18-all": "unrolled",
            "sdnet18-all:one-step": "one-step"}
SANITIZED = ["norm_forward", "norm_backward", "norm_max_forward", "norm_max_backward", "max_forward", "max_backward",
             "mean_forward", "mean_backward", "mask", "axpby_act", "dot_act", "axpby_f32", "dot_f32", "linear_forward",
             "linear_backward", "cross_entropy", "sgd", "normalize_rows", "upload"]


class Failed(Exception):
    """The part has found a fault, or could not finish."""


class Skipped(Exception):
    """The part cannot run here."""


def size_options(check, size, batch):
    """csc-bench's options for a network of this size; in a small check the smallest that still has every operation."""
    width, size, batch = (8, 16, 4) if check.small else (64, size, batch)
    return ["--device", check.device, "--precision", "bf16" if check.gpu else "fp32", "--width", str(width), "--size",
            str(size), "--batch", str(batch)]


def bench(check, name, *arguments, log=None):
    """Runs csc-bench and returns its JSON, which the report keeps as NAME.json."""
    out = check.path(name + ".json")
    check.run([check.program("csc-bench"), *arguments, "--json", out], log=log)
    with open(out, encoding="utf-8") as f:
        return json.load(f)


def fused_share(trace):
    """The share of convolutions with an epilogue that are fused with it; None: there are no such convolutions."""
    fused, separate = (sum(line["calls"] for line in trace["operations"] if how in line["shape"])
                       for how in ("fused in one pass", "own pass after"))
    return fused / (fused + separate) if fused + separate else None


def fused_figure(check, name, trace):
    share, kinds = fused_share(trace), {}
    for line in trace["operations"]:
        if "fused in one pass" in line["shape"]:  # followed by ", sm90 kernel" if that is known
            kind = line["shape"].rpartition("one pass")[2].strip(", ") or "unnamed kernel"
            kinds[kind] = kinds.get(kind, 0) + line["ms"]
    if share is not None:
        spent = "; " + ", ".join(f"{ms:.3f} ms in {kind}s" for kind, ms in kinds.items()) if kinds else ""
        check.figure(name, 100 * share, "% of the convolutions that something follows" + spent)


def smoke(check):
    """three small steps: do they run, are they a CUDA graph, are convolutions fused"""
    for name, version in check.report.data["machine"].items():
        check.figure(name, version)
    plain = bench(check, "smoke-step", "step", *size_options(check, 32, 64), "--arch", "sdnet18", "--steps", "3")
    check.figure("sdnet18 at 32x32", plain["img_s"], "img/s")
    check.figure("steps are a CUDA graph", "yes" if plain["graph"] else "no")
    trace = bench(check, "smoke-trace", "step", *size_options(check, 32, 64), "--arch", "sdnet18-all", "--steps", "3",
                  "--trace")
    check.figure("sdnet18-all at 32x32", trace["img_s"], "img/s", step_roofline(trace, check.gpu))
    fused_figure(check, "fused", trace)
    if check.gpu and not plain["graph"]:
        raise Failed("the steps were not captured as a CUDA graph; see smoke.log")
    if check.gpu and not fused_share(trace):
        raise Failed("no convolution is fused with its epilogue: is NVRTC missing?")


def step(check, network, kind, *options):
    """Measures steps without data; the report keeps KIND-NETWORK.json."""
    return bench(check, f"{kind}-{network.replace(':', '-')}", "step", *size_options(check, 224, 256), "--arch",
                 network.split(":")[0],
                 "--backward", NETWORKS[network], "--steps", "1" if check.small else "20", *options)


def trace(check):
    """img/s of the networks at 224x224, batch 256, bf16, without data, and every operation of a step"""
    failures = []
    for network in NETWORKS:
        try:
            found = step(check, network, "trace", "--trace")
        except Failed as problem:  # the other networks are measured all the same
            failures.append(f"{network}: {problem}")
            continue
        check.figure(network, found["img_s"], "img/s", step_roofline(found, check.gpu))
        fused_figure(check, network + ", fused", found)
        write_calls(check, network, found)
    if failures:
        raise Failed("; ".join(failures))


def write_calls(check, network, found):
    """Writes a table of all operations, the longest first, each with its share of the roofline."""
    bytes_s, flops_s, of = card_rates(check.gpu, found)
    with open(check.path(f"calls-{network.replace(':', '-')}.txt"), "w", encoding="utf-8") as out:
        out.write(f"{network}: of a step {found['ms']:.3f} ms; roofline: {of}\n")
        out.write(f"{'ms':>9} {'calls':>6} {'GFLOP':>9} {'MB':>9} {'TFLOP/s':>8} {'GB/s':>8} "
                  f"{'of roofline':>11}  operation\n")
        for line in found["operations"]:
            flops, moved = operation_cost(line)
            share = max(flops / flops_s, moved / bytes_s) / max(1e-3 * line["ms"], 1e-12)
            out.write(f"{line['ms']:9.3f} {line['calls']:6.1f} {flops * 1e-9:9.2f} {moved * 1e-6:9.2f} "
                      f"{line['gflop_s'] * 1e-3:8.1f} {line['gb_s']:8.1f} {share:11.2f}  "
                      f"{line['operation']} {line['shape']}\n")


def torch_speed(check, size, batch, *options):
    """Runs gpu_check_torch.py and takes its figures; if it fails, those that it has measured by then."""
    python = shutil.which("python3") or "python3"
    plain = {"LD_LIBRARY_PATH": gpu_check_machine.GIVEN_PATH}  # PyTorch finds its own libraries
    if check.wait(check.start([python, "-c", "import torch; assert torch.cuda.is_available()"], env=plain)) != 0:
        raise Skipped("python3 has no PyTorch with CUDA")
    out = check.path(check.name + ".json")
    published = ["--published", check.options.published] if check.options.published else []
    try:
        check.run([python, os.path.join(check.here, "gpu_check_torch.py"), "--size", str(32 if check.small else size),
                   "--batch", str(4 if check.small else batch), "--out", out, *published, *options], env=plain)
    finally:
        torch_figures(check, out, size)


def torch_figures(check, out, size):
    try:
        with open(out, encoding="utf-8") as f:
            results = json.load(f)
    except (OSError, ValueError):
        return
    check.figure("PyTorch", results.pop("torch"))
    for network, speeds in results.items():
        for how in ("eager", "compiled", "published"):
            if speeds.get(how):
                more = {"by": speeds["published_by"], "batch": speeds["published_batch"]} if how == "published" else {}
                roofline = traced_roofline(check, network) if size == 224 else None
                check.figure(f"{network}, {how}", speeds[how], "img/s", roofline, **more)


def traced_roofline(check, network):
    """The roofline of the network's step, from the part trace; None if that has not run."""
    try:
        with open(check.path(f"trace-{network.replace(':', '-')}.json"), encoding="utf-8") as f:
            return step_roofline(json.load(f), check.gpu)
    except (OSError, ValueError, KeyError):
        return None


def torch_resnet18(check):
    """PyTorch's ResNet-18 at 224x224, compiled and eager, for comparison (needs python3 with PyTorch)"""
    torch_speed(check, 224, 256, "--networks", "resnet18", "--ways", "compiled,eager")


def torch_224(check):
    """the other networks in PyTorch, eager, compiled and as published"""
    torch_speed(check, 224, 256, "--networks", "sdnet18,sdnet18-all")


def torch_32(check):
    """the networks in PyTorch at 32x32, batch 512"""
    torch_speed(check, 32, 512)


def golden(check):
    """CSC-layers and optimizer steps against stored results"""
    folder = os.path.join(check.here, "golden")
    check.run([check.program("test-golden"), check.device, os.path.join(folder, "layers.safetensors")])
    check.run([check.program("test-golden-small"), check.device] +
              sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".json")))


def feed(check):
    """photographs are packed, loaded by 16 workers and trained on: does the GPU wait for data (needs --photographs)"""
    gpu_check_feed.feed(check)


def ops(check):
    """every operation against the ref backend in fp32, tf32 and bf16, and CSC layers"""
    common = [check.program("check_ops"), "--most=2" if check.small else "--most=80"]
    common += ["--device=cuda"] if check.gpu else []
    precisions = ("fp32", "tf32", "bf16") if check.gpu and not check.small else ("fp32",)
    # all at once: most of the time goes into compiling cuDNN's fused kernels
    started = [(p,
                check.start([*common, *(["--precision=" + p] if check.gpu else []),
                             *(["mask", "dot_f32"] if check.small else [])],
                               log=f"ops-{p}.log")) for p in precisions]
    if not check.small:
        started.append(("CSC-layers", check.start([check.program("test-csc"), check.device])))
    codes = {name: check.wait(process) for name, process in started}
    for name, code in codes.items():
        check.figure(name, "passed" if code == 0 else f"exit code {code}")
    if any(codes.values()):
        raise Failed(", ".join(name for name, code in codes.items() if code) + " failed; their logs are in the report")


def cifar(check):
    """Returns a folder with train and val."""
    data = check.options.data
    if not data:
        raise Skipped("--data is not given")
    if os.path.exists(os.path.join(data, "train", "index.json")):
        return data
    packed = os.path.join(check.work, "cifar10")
    for name, root, to in (("cifar10-train.tar.zst", "train", "train"), ("cifar10-test.tar.zst", "test", "val")):
        if not os.path.exists(os.path.join(packed, to, "index.json")):
            check.run([check.program("csc-pack"), "imagefolder", "--root", root, os.path.join(data, name),
                       os.path.join(packed, to)])
    return packed


def train_cifar(check, network):
    data, run = cifar(check), os.path.join(check.work, "run-" + network)
    shutil.rmtree(run, ignore_errors=True)
    settings = {"run.name": network, "run.dir": run, "model.arch": network, "data.train": data + "/train",
                "data.val": data + "/val",
                "device.kind": check.device, "train.batch": 512, "train.micro_batch": 512, "eval.batch": 500,
                "train.epochs": 60, "train.lr": 0.4, "train.label_smoothing": 0.1, "train.schedule.kind": "onecycle",
                "train.schedule.warmup_epochs": 12, "eval.every_epochs": 5, "checkpoint.every_epochs": 0}
    if check.small:
        settings.update({"model.width": 8, "train.batch": 16, "train.micro_batch": 16, "eval.batch": 4,
                         "train.epochs": 2, "train.schedule.warmup_epochs": 1})
    check.run([check.program("csc-train"), os.path.join(check.here, "configs", "cifar10.yaml")] +
              [f"{key}={value}" for key, value in settings.items()])
    evaluations = gpu_check_feed.events(os.path.join(run, "metrics.jsonl"), "eval")
    check.figure("top1", evaluations[-1]["top1"])
    check.figure("seconds", check.report.part["seconds"], "s")


def train_sdnet18(check):
    """CIFAR-10, 60 epochs: accuracy and time (needs --data)"""
    train_cifar(check, "sdnet18")


def train_resnet18(check):
    """the same for ResNet-18"""
    train_cifar(check, "resnet18")


def sanitizer(check):
    """operations under compute-sanitizer (memcheck, racecheck)"""
    if not shutil.which("compute-sanitizer"):
        raise Skipped("compute-sanitizer is not in PATH")
    for tool in ("memcheck", "racecheck"):
        check.run(["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", check.program("check_ops"),
                   "--device=cuda", "--most=30", *SANITIZED])
    check.run(["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9", check.program("test-golden"), "cuda",
               os.path.join(check.here, "golden", "layers.safetensors")])


def fused(check):
    """every plan of every fused graph of sdnet18-all at 224x224, batch 256: ms, TFLOP/s, kernel"""
    gpu_check_plans.fused(check)


def allreduce(check):
    """the time of NCCL's sums on one GPU (needs NCCL 2.27)"""
    if not check.gpu:
        raise Skipped("there is no GPU")
    program = check.program("csc-bench-nccl")
    if not os.path.exists(program):
        raise Skipped("the bundle was built without NCCL")
    if gpu_check_machine.lacks_libraries(program):
        raise Skipped("libnccl.so.2 of 2.27 or later is in none of the usual places")
    out = check.path("allreduce.json")
    check.run([program, "allreduce", "--device", "cuda", "--max-mb", "1" if check.small else "64", "--json", out])
    with open(out, encoding="utf-8") as f:
        for row in json.load(f)["sizes"]:
            check.figure(f"{row['bytes']} bytes", 1e6 * row["fp32"]["seconds"], "us",
                         bf16_us=round(1e6 * row["bf16"]["seconds"], 2))


def profile(check):
    """the kernels of one step of sdnet18-all (needs nsys or ncu)"""
    step = [check.program("csc-bench"), "step", *size_options(check, 224, 256), "--arch", "sdnet18-all", "--steps",
            "1", "--profile"]
    if not check.gpu:
        raise Skipped("there is no GPU")
    if shutil.which("nsys"):
        check.run(["nsys", "profile", "--capture-range=cudaProfilerApi", "--force-overwrite=true", "--stats=true",
                   "--output=" + check.path("profile"), *step])
    elif shutil.which("ncu"):
        check.run(["ncu", "--profile-from-start", "off", "--metrics", "gpu__time_duration.sum", "--csv", *step],
                  env={"CSC_CUDA_GRAPH": "0"})
    else:
        raise Skipped("neither nsys nor ncu is in PATH")


ORDER = ["smoke", "trace", "torch-resnet18", "golden", "feed", "ops", "torch-224", "train-sdnet18", "train-resnet18",
         "sanitizer"]
PARTS = {"smoke": smoke, "trace": trace, "torch-resnet18": torch_resnet18, "golden": golden, "feed": feed, "ops": ops,
         "torch-224": torch_224, "train-sdnet18": train_sdnet18, "train-resnet18": train_resnet18,
         "sanitizer": sanitizer, "fused": fused, "allreduce": allreduce, "torch-32": torch_32, "profile": profile}
