"""gpu_check_feed.py - the part feed of scripts/gpu-check: does the loader keep up with the GPU? It uses photographs,
repeated until no cache of decoded images would hold them."""
import json
import os
import shutil
import signal
import tarfile
import time

import gpu_check_parts as parts

SUFFIXES = (".jpg", ".jpeg", ".png")


def events(path, kind):
    """The events of one kind in a run's metrics.jsonl, which may not exist yet. The last line may be incomplete."""
    found = []
    try:
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.endswith("\n") and f'"event":"{kind}"' in line:
                    found.append(json.loads(line))
    except FileNotFoundError:
        pass
    return found


def repeat_photographs(archive, folder, times):
    """Unpacks class folders in which every photograph has `times` names, as hard links. Returns the number of names."""
    count = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            kind, name = os.path.split(member.name)
            kind = os.path.basename(kind)
            if not member.isfile() or not kind or kind.startswith(".") or not name.lower().endswith(SUFFIXES):
                continue
            os.makedirs(os.path.join(folder, kind), exist_ok=True)
            first = os.path.join(folder, kind, "000-" + name)
            with tar.extractfile(member) as source, open(first, "wb") as out:
                shutil.copyfileobj(source, out)
            for i in range(1, times):
                os.link(first, os.path.join(folder, kind, f"{i:03}-{name}"))
            count += times
    if not count:
        raise parts.Failed(f"{archive} holds no JPEG or PNG files in class folders")
    return count


def pack(check):
    """Packs the photographs and returns the folder of the data set."""
    folder, out = os.path.join(check.work, "photographs"), os.path.join(check.work, "feed")
    if os.path.exists(os.path.join(out, "index.json")):
        return out
    shutil.rmtree(folder, ignore_errors=True)
    count = repeat_photographs(check.options.photographs, folder, 3 if check.small else 200)
    began = time.monotonic()
    check.run([check.program("csc-pack"), "imagefolder", "--resize", "short:48" if check.small else "short:256",
               folder, out])
    check.figure("photographs packed", count, f"in {time.monotonic() - began:.1f} s")
    shutil.rmtree(folder)
    return out


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def configuration(check, network, data, run):
    batch, size = (8, 32) if check.small else (256, 224)
    return f"""run: {{name: feed, dir: {run}, log_every: {1 if check.small else 20}}}
model: {{arch: {network}, width: {8 if check.small else 64}}}
data: {{train: {data}, augment: imagenet, image_size: {size}}}
train: {{steps: 10000000, batch: {batch}, micro_batch: {batch}, lr: 0.001}}
device: {{kind: {check.device}, precision: {'bf16' if check.gpu else 'fp32'}}}
checkpoint: {{every_epochs: 0}}
"""


def await_steps(process, metrics, count, seconds):
    """Waits until `count` intervals have been reported."""
    until = time.monotonic() + seconds
    while len(events(metrics, "step")) < count:
        if process.poll() is not None or time.monotonic() > until:
            raise parts.Failed(f"training did not begin within {seconds} s" if process.poll() is None
                               else "training ended too early")
        time.sleep(0.2)


def train(check, network, data, seconds):
    """Trains and measures so many seconds, from the third interval on. Returns steps' records and the cores used."""
    run, config = os.path.join(check.work, "feed-" + network), check.path(f"feed-{network}.yaml")
    shutil.rmtree(run, ignore_errors=True)
    with open(config, "w", encoding="utf-8") as f:
        f.write(configuration(check, network, data, run))
    metrics = os.path.join(run, "metrics.jsonl")
    process = check.start([check.program("csc-train"), config])
    await_steps(process, metrics, 2, min(200, max(1, check.deadline - time.monotonic())))
    seconds = min(seconds, check.deadline - time.monotonic() - 15)
    if seconds < 1:
        raise parts.Failed("training began too late to measure it")
    before, began, known = processor_seconds(process.pid), time.monotonic(), len(events(metrics, "step"))
    time.sleep(seconds)
    if process.poll() is not None:
        raise parts.Failed(f"csc-train ended after {time.monotonic() - began:.0f} s: " + check.last_line())
    cores = (processor_seconds(process.pid) - before) / (time.monotonic() - began)
    process.send_signal(signal.SIGUSR1)
    code = check.wait(process, 60)
    if code != 75:
        raise parts.Failed(f"csc-train: exit code {code}, not 75, when it was asked to stop: " + check.last_line())
    return events(metrics, "step")[known:], cores


def mean_speed(steps):
    """Over intervals of equally many steps: images a second, and the share of time spent waiting for data."""
    times = [1 / step["img_s"] for step in steps]
    return len(steps) / sum(times), sum(t * step["data_wait"] for t, step in zip(times, steps)) / sum(times)


def from_memory(check, network):
    """img/s of the same network without loading data."""
    speed = check.report.value("trace", network)
    if speed is None:
        speed = parts.step(check, network, "memory")["img_s"]
    return speed


def feed(check):
    if not check.options.photographs:
        raise parts.Skipped("--photographs is not given")
    data = pack(check)
    workers, seconds = (2, 2) if check.small else (min(16, len(os.sched_getaffinity(0))), 30)
    size, batch = ("32", "8") if check.small else ("224", "256")
    loader = parts.bench(check, "loader", "loader", data, "--workers", str(workers), "--size", size, "--augment",
                         "imagenet", "--batch", batch, "--seconds", "1" if check.small else "8")
    check.figure(f"loader, {workers} workers", loader["img_s"], "img/s", bottleneck=loader["bottleneck"])
    check.figure("loader, per second of processor time", loader["img_s_core"], "img/s")
    for network in ("resnet18", "sdnet18"):
        steps, cores = train(check, network, data, seconds)
        if not steps:
            raise parts.Failed(f"{network}: no interval was reported within {seconds} s")
        speed, waiting = mean_speed(steps)
        memory = from_memory(check, network)
        check.figure(network, speed, "img/s", None if check.small else parts.traced_roofline(check, network))
        check.figure(f"{network}, of the speed from memory", speed / memory, "", memory=round(memory, 1))
        check.figure(f"{network}, waiting for data", 100 * waiting, "%")
        check.figure(f"{network}, cores used", cores)
