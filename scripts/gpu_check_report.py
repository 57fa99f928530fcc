"""gpu_check_report.py - the report of scripts/gpu-check: figures with their share of the roofline, goals, report.json,
report.txt and an archive of everything. Files are written under another name and renamed, so that a check that is
killed leaves complete ones."""
import json
import os
import tarfile
import time

# TB/s and TFLOP/s in bf16 that a large copy or matrix product reaches; for other cards csc-bench measures them
CARDS = {"H200": (4.8, 700), "H100": (3.35, 700)}

# 224x224: wanted speed, relative to PyTorch's fastest ResNet-18 in the same run
WANTED_OF_TORCH = {"resnet18": 1.25, "sdnet18": 1.0, "sdnet18-all": 0.55, "sdnet18-all:one-step": 0.85}


def say(text):
    """Prints on standard output. If nobody reads it any more the check goes on: the report is in files."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def write_aside(path, data):
    aside = path + ".new"
    with open(aside, "wb") as f:
        f.write(data)
    os.replace(aside, path)


def digits(value):
    """Rounds to the digits that mean something."""
    return float(f"{value:.6g}")


def card_rates(name, trace):
    """Bytes and operations a second of the roofline, and where they come from."""
    for card, (terabytes, teraflops) in CARDS.items():
        if card in name:
            return terabytes * 1e12, teraflops * 1e12, f"{terabytes:g} TB/s and {teraflops:g} TFLOP/s"
    gigabytes, gigaflops = trace["peak_gb_s"], trace["peak_gflop_s"]
    return 1e9 * gigabytes, 1e9 * gigaflops, f"{gigabytes:.4g} GB/s and {gigaflops:.4g} GFLOP/s, as measured"


def operation_cost(line):
    """Operations and bytes of all calls in a line of csc-bench's trace, if each operand is moved once."""
    return line["gflop_s"] * line["ms"] * 1e6, line["least_mb"] * 1e6


def step_roofline(trace, gpu):
    """The roofline of a step that csc-bench has traced: each call takes the time of its operations or of its
    bytes, whichever is longer."""
    bytes_s, flops_s, of = card_rates(gpu, trace)
    seconds = flops = moved = 0
    for line in trace["operations"]:
        f, b = operation_cost(line)
        seconds, flops, moved = seconds + max(f / flops_s, b / bytes_s), flops + f, moved + b
    return {"img_s": trace["batch"] / seconds, "tflop": flops * 1e-12, "gb": moved * 1e-9, "of": of}


class Report:
    def __init__(self, folder, archive, machine):
        self.folder, self.archive = folder, archive
        self.path = os.path.join(folder, "report.json")
        self.parts = self.earlier_parts()
        self.data = {"machine": machine, "began": time.strftime("%Y-%m-%d %H:%M:%S"), "parts": self.parts}
        self.part = None

    def earlier_parts(self):
        """The parts of an earlier run, which are kept until they run again."""
        try:
            with open(self.path, encoding="utf-8") as f:
                parts = json.load(f)["parts"]
            return {name: part for name, part in parts.items() if part["outcome"] != "running"}
        except (OSError, ValueError, KeyError):
            return {}

    def begin(self, name):
        self.part = self.parts[name] = {"outcome": "running", "seconds": 0, "why": "", "figures": {}}
        self.began = time.monotonic()
        self.write()

    def end(self, outcome, why=""):
        self.part.update(outcome=outcome, why=why)
        self.write()

    def figure(self, name, value, unit="", roofline=None, **more):
        """Reports a number or a word. roofline: the largest possible value, from step_roofline."""
        entry = {"value": digits(value) if isinstance(value, float) else value, "unit": unit, **more}
        if roofline:
            entry.update(roofline=digits(value / roofline["img_s"]), tflop=digits(roofline["tflop"]),
                         gb=digits(roofline["gb"]), roofline_of=roofline["of"])
        self.part["figures"][name] = entry
        self.write()
        say("   " + figure_line(name, entry))

    def value(self, part, name):
        return self.parts.get(part, {}).get("figures", {}).get(name, {}).get("value")

    def write(self):
        if self.part and self.part["outcome"] == "running":
            self.part["seconds"] = round(time.monotonic() - self.began, 1)
        self.data["wanted"] = wanted(self)
        write_aside(self.path, json.dumps(self.data, indent=1).encode())
        write_aside(os.path.join(self.folder, "report.txt"), self.text().encode())
        self.write_archive()

    def text(self):
        lines = ["csc-train on " + ", ".join(f"{k} {v}" for k, v in self.data["machine"].items()), ""]
        for name, part in self.parts.items():
            lines.append(f"{name}: {part['outcome']} in {part['seconds']:.0f} s"
                         + (f": {part['why']}" if part["why"] else ""))
            lines += ["    " + figure_line(figure, entry) for figure, entry in part["figures"].items()]
        return "\n".join([*lines, "", *self.data["wanted"], ""])

    def write_archive(self):
        aside = self.archive + ".new"
        with tarfile.open(aside, "w:gz", compresslevel=6) as tar:
            tar.add(self.folder, arcname=os.path.basename(self.folder))
        os.replace(aside, self.archive)


def figure_line(name, entry):
    value = text = entry["value"]
    if isinstance(value, float):
        text = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    line = f"{name}: {text}" + (f" {entry['unit']}" if entry["unit"] else "")
    if "roofline" in entry:
        line += f", {entry['roofline']:.2f} of the roofline "
        line += f"({entry['tflop']:.3g} TFLOP, {entry['gb']:.3g} GB, {entry['roofline_of']})"
    return line


# ---- goals ----

def at_least(what, value, minimum, unit=""):
    if value is None:
        return f"{what}: not measured ({minimum}{unit} wanted)"
    return f"{what}: {value:.4g}{unit}, {'reached' if value >= minimum else 'NOT reached'} ({minimum}{unit} wanted)"


def below(what, value, maximum, unit=""):
    if value is None:
        return f"{what}: not measured (below {maximum}{unit} wanted)"
    reached = "reached" if value < maximum else "NOT reached"
    return f"{what}: {value:.3g}{unit}, {reached} (below {maximum}{unit} wanted)"


def ratio(a, b):
    return a / b if a is not None and b else None


def wanted(report):
    lines = [f"{part}: {report.parts.get(part, {}).get('outcome', 'not run')}"
             for part in ("smoke", "golden", "ops", "sanitizer")]
    speeds = [report.value("torch-resnet18", f"resnet18, {how}") for how in ("compiled", "eager")]
    torch = max((s for s in speeds if s), default=None)
    for network, minimum in WANTED_OF_TORCH.items():
        lines.append(at_least(f"224x224, {network}, of PyTorch's ResNet-18",
                              ratio(report.value("trace", network), torch), minimum))
    lines.append(at_least("224x224, sdnet18-all, of the published code's speed",
                          ratio(report.value("trace", "sdnet18-all"),
                                report.value("torch-224", "sdnet18-all, published")), 5))
    for network in ("resnet18", "sdnet18"):
        lines.append(below(f"waiting for data, {network}", report.value("feed", f"{network}, waiting for data"), 1,
                           "%"))
    top1, other = (report.value(f"train-{network}", "top1") for network in ("sdnet18", "resnet18"))
    lines.append(at_least("CIFAR-10, sdnet18", ratio(top1, 0.01), 95, "%"))
    lines.append(below("CIFAR-10, resnet18 and sdnet18 apart", None if top1 is None or other is None
                       else 100 * abs(other - top1), 0.4, " points"))
    return lines
