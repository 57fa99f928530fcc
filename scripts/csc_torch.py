#!/usr/bin/env python3
"""csc-train's networks in PyTorch: load checkpoints, convert weights for csc-train, export to ONNX.

In Python:

    import csc_torch
    net = csc_torch.load("runs/cifar10")        # or one checkpoint; evaluation mode, gradients flow to the input
    logits = net(csc_torch.read_cifar("test_batch.bin")[0])    # pixels (N,3,H,W) in 0..1

These are ResNet and SDNet 18/34/50 as csc-train builds them, with the same parameter names and the same mathematics, in NCHW.
A network from `load` gives the same logits as `csc-eval --logits`: it has averaged weights if the run kept them, atoms of unit
norm and converged step sizes.

A CSC-layer with dictionary w (D,C,k,k) codes its input x (N,C,H,W) as z (N,D,H',W'), by `steps` unrolled FISTA iterations on
    1/2 |x - A z|^2 + lambda |z|_1 + mu/2 |z|^2        (z >= 0 if nonnegative)
where A^T is convolution with w and A its adjoint; the step size is eta = 0.9 / lambda_max(A^T A) at the layer's input size.

Needs PyTorch 1.13 or later with numpy; `onnx` also needs the packages that PyTorch's exporter needs.
"""
import argparse
import fnmatch
import json
import math
import os
import pickle
import re
import struct
import sys

import numpy
import torch
import torch.nn.functional as F
from torch import nn

ARCHS = [f"{kind}{depth}{tail}" for kind, tail in (("resnet", ""), ("sdnet", ""), ("sdnet", "-all")) for depth in (18, 34, 50)]
STEP_SAFETY = 0.9  # eta = 0.9 / lambda_max, as published


class Problem(Exception):
    """Bad input. The message says what is wrong and where."""


# ---- CSC-layer ----


def largest_eigenvalue(image_map, start, most=400, tolerance=1e-10):
    """The largest eigenvalue of a symmetric positive linear map on float64 tensors, by Lanczos' method from `start`."""
    v, before, beta = start / start.norm(), torch.zeros_like(start), 0.0
    alphas, betas, last = [], [], 0.0
    for i in range(most):
        w = image_map(v) - beta * before
        alpha = float((w * v).sum())
        w = w - alpha * v
        alphas.append(alpha)
        beta = float(w.norm())
        if i % 10 == 9 or beta <= 1e-12 * abs(alphas[0]):
            tridiagonal = numpy.diag(alphas) + numpy.diag(betas, 1) + numpy.diag(betas, -1)
            value = float(numpy.linalg.eigvalsh(tridiagonal)[-1])
            if beta <= 1e-12 * abs(alphas[0]) or value - last <= tolerance * value:
                return value
            last = value
        betas.append(beta)
        before, v = v, w / beta
    return last


class CSC(nn.Module):
    """x (N,C,H,W) -> z (N,D,H',W'). `lam` is lambda: a number, or a tensor (N) with one value for each image."""

    def __init__(self, channels, atoms, kernel, stride, options):
        super().__init__()
        self.dn = nn.Conv2d(channels, atoms, kernel, stride, kernel // 2, bias=False)
        nn.init.normal_(self.dn.weight)
        self.steps, self.lam, self.mu = options["steps"], options["lambda"], options["mu"]
        self.nonnegative, self.step_size = options["nonnegative"], options["step_size"]
        self.eta_at = {}  # (H,W) -> eta for the current weights
        self.normalize_atoms()

    def normalize_atoms(self):
        """Scales the atoms to unit norm. Call it after every change of the weights."""
        with torch.no_grad():
            w = self.dn.weight
            w /= w.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        self.eta_at.clear()

    def eta(self, size):
        """The step size for inputs of `size` (H,W): the configured one, or 0.9 / lambda_max."""
        size = (int(size[0]), int(size[1]))
        if self.step_size:
            return self.step_size
        if size not in self.eta_at:
            w = self.dn.weight.detach().double()
            generator = torch.Generator().manual_seed(1)
            start = torch.randn(1, w.shape[1], *size, generator=generator, dtype=torch.float64).to(w.device)
            with torch.no_grad():
                most = largest_eigenvalue(lambda x: self.synthesis(self.analysis(x, w), size, w), start)
            self.eta_at[size] = STEP_SAFETY / max(most, 1e-30)
        return self.eta_at[size]

    def analysis(self, x, w=None):
        """A^T x."""
        return F.conv2d(x, self.dn.weight if w is None else w, stride=self.dn.stride, padding=self.dn.padding)

    def synthesis(self, z, size, w=None):
        """A z; `size` is its spatial size (H,W)."""
        k, s, p = self.dn.kernel_size[0], self.dn.stride[0], self.dn.padding[0]
        extra = tuple((int(n) + 2 * p - k) % s for n in size)
        return F.conv_transpose2d(z, self.dn.weight if w is None else w, stride=s, padding=p, output_padding=extra)

    def shrink(self, v, eta):
        nu = 1 / (1 + self.mu * eta)
        lam = self.lam.view(-1, 1, 1, 1) if torch.is_tensor(self.lam) else self.lam
        threshold = lam * (eta * nu)
        return F.relu(nu * v - threshold) if self.nonnegative else F.relu(nu * v - threshold) - F.relu(-nu * v - threshold)

    def residual(self, x, z):
        """x - A z."""
        return x - self.synthesis(z, x.shape[-2:])

    def forward(self, x):
        eta = self.eta(x.shape[-2:])
        z, before, t = self.shrink(eta * self.analysis(x), eta), None, 1.0
        for _ in range(1, self.steps):
            t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
            y = z if before is None else z + (t - 1) / t_next * (z - before)
            before, z = z, self.shrink(y + eta * self.analysis(self.residual(x, y)), eta)
            t = t_next
        return z


# ---- networks ----


class Block(nn.Module):
    """A residual block: convolutions with batch norms, and a shortcut. A ReLU follows only plain convolutions: codes are sparse."""

    def __init__(self, net, name, channels, planes, stride):
        super().__init__()
        out = planes * net.expansion
        shapes = [(channels, planes, 3, stride), (planes, planes, 3, 1)]
        if net.bottleneck:
            shapes = [(channels, planes, 1, 1), (planes, planes, 3, stride), (planes, out, 1, 1)]
        self.convs = len(shapes)
        for i, shape in enumerate(shapes, 1):
            setattr(self, f"conv{i}", net.convolution(f"{name}.conv{i}", *shape))
            setattr(self, f"bn{i}", nn.BatchNorm2d(shape[1]))
        self.shortcut = None
        if net.config["shortcut"]:
            plain = stride == 1 and channels == out
            self.shortcut = nn.Sequential() if plain else nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for i in range(1, self.convs + 1):
            conv = getattr(self, f"conv{i}")
            y = getattr(self, f"bn{i}")(conv(y))
            if i < self.convs and not isinstance(conv, CSC):
                y = F.relu(y)
        return y if self.shortcut is None else F.relu(y + self.shortcut(x))


class Stage(nn.Module):
    """A stage of an -all network, whose blocks have one more level of names: layer1.layers.0."""

    def __init__(self, blocks):
        super().__init__()
        self.layers = nn.Sequential(*blocks)

    def forward(self, x):
        return self.layers(x)


DEFAULTS = {
    "arch": None, "classes": 10, "stem": "cifar", "width": 64, "shortcut": True, "layers": None,
    "mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010], "image_size": 32,
    "csc": {"steps": 2, "lambda": 0.1, "mu": 0.0, "nonnegative": True, "step_size": None},
}


class Net(nn.Module):
    """A network. config has the keys of DEFAULTS; only `arch` is required. From pixels (N,3,H,W) in 0..1 to logits (N,classes)."""

    def __init__(self, **config):
        super().__init__()
        csc = {**DEFAULTS["csc"], **config.pop("csc", {})}
        self.config = config = {**DEFAULTS, **config, "csc": csc}
        arch = config["arch"]
        if arch not in ARCHS:
            raise Problem(f"csc-train has no network '{arch}'; it has {', '.join(ARCHS)}")
        self.all, self.sparse_stem, depth = arch.endswith("-all"), arch.startswith("sdnet"), int(re.sub(r"\D", "", arch))
        if not self.all and not config["shortcut"]:
            raise Problem("only the -all networks may drop their shortcuts")
        self.bottleneck, self.expansion = depth >= 50, 4 if depth >= 50 else 1
        self.unmet = set(config["layers"] or [])
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, 3, 1, 1), persistent=False)
        self.layer0 = self.make_stem()
        channels = width = config["width"]
        for stage, count in enumerate([2, 2, 2, 2] if depth == 18 else [3, 4, 6, 3]):
            blocks, name = [], f"layer{stage + 1}"
            for i in range(count):
                inner = f"{name}.layers.{i}" if self.all else f"{name}.{i}"
                blocks.append(Block(self, inner, channels, width << stage, 2 if stage and not i else 1))
                channels = (width << stage) * self.expansion
            setattr(self, name, Stage(blocks) if self.all else nn.Sequential(*blocks))
        self.linear = nn.Linear(channels, config["classes"])
        if self.unmet:
            raise Problem(f"model.layers: {arch} has no such convolution that can be a CSC-layer: {', '.join(sorted(self.unmet))}")

    def is_sparse(self, name, by_arch):
        if self.config["layers"] is None:
            return by_arch
        self.unmet.discard(name)
        return name in self.config["layers"]

    def convolution(self, name, channels, out, kernel, stride, by_arch=None):
        if self.is_sparse(name, self.all if by_arch is None else by_arch):
            return CSC(channels, out, kernel, stride, self.config["csc"])
        return nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)

    def make_stem(self):
        width, imagenet = self.config["width"], self.config["stem"] == "imagenet"
        first = self.convolution("layer0.0", 3, width, 7 if imagenet else 3, 2 if imagenet else 1, self.sparse_stem)
        parts = [first, nn.BatchNorm2d(width)]
        if imagenet and self.is_sparse("layer0.2", self.all):
            parts.append(CSC(width, width, 3, 2, self.config["csc"]))
        elif imagenet:
            parts.append(nn.MaxPool2d(3, 2, 1))
        return nn.ModuleList(parts)

    def csc_layers(self):
        """The CSC-layers by name, in forward order."""
        return {name: module for name, module in self.named_modules() if isinstance(module, CSC)}

    def normalize_atoms(self):
        for layer in self.csc_layers().values():
            layer.normalize_atoms()

    def normalized(self, pixels):
        """The input of the first layer."""
        return (pixels - self.mean) / self.std

    def forward(self, pixels):
        x = self.layer0[1](self.layer0[0](self.normalized(pixels)))
        if not isinstance(self.layer0[0], CSC):
            x = F.relu(x)
        for part in self.layer0[2:]:
            x = part(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.linear(x.mean(dim=(2, 3)))


# ---- safetensors ----

DTYPES = {"F32": numpy.float32, "F64": numpy.float64, "F16": numpy.float16, "I64": numpy.int64, "I32": numpy.int32,
          "U8": numpy.uint8}


def read_safetensors(path):
    """The tensors of a file by name."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        size = struct.unpack_from("<Q", data)[0]
        header = json.loads(data[8:8 + size])
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            raw = data[8 + size + start:8 + size + end]
            if entry["dtype"] == "BF16":
                words = numpy.frombuffer(raw, numpy.uint16).astype(numpy.uint32) << 16
                array = words.view(numpy.float32).reshape(entry["shape"])
            else:
                array = numpy.frombuffer(raw, DTYPES[entry["dtype"]]).reshape(entry["shape"]).copy()
            tensors[name] = torch.from_numpy(array)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(f"{path}: not a safetensors file ({type(error).__name__}: {error})") from None
    return tensors


def write_safetensors(path, tensors):
    """Writes tensors (name -> tensor): floating-point ones as F32, integers as I64."""
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in tensors.items():
        dtype, kind = ("F32", "<f4") if tensor.is_floating_point() else ("I64", "<i8")
        blob = tensor.detach().cpu().numpy().astype(kind).tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


# ---- csc-train's checkpoints ----


def scalar(text):
    """Parses a value as csc-train prints it: a word, a number, or text in double quotes."""
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if text in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def read_config(path):
    """Reads config.yaml of a run or checkpoint: dotted key -> value. It reads only the form that csc-train writes, not any YAML."""
    values, sections = {}, []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            match = re.fullmatch(r"((?:  )*)(\w+):(?: (.*))?\n?", line)
            if not match:
                if line.strip() and not line.startswith("#"):
                    raise Problem(f"{path}:{number}: this is not a line of a configuration that csc-train wrote")
                continue
            depth, key, text = len(match[1]) // 2, match[2], (match[3] or "").strip()
            sections[depth:] = [key]
            if text.startswith("["):
                values[".".join(sections)] = [scalar(part.strip()) for part in text[1:-1].split(",") if part.strip()]
            elif text:
                values[".".join(sections)] = scalar(text)
    return values


def net_config(values):
    """The configuration of Net from the keys of read_config."""
    model = {key: values[f"model.{key}"] for key in ("arch", "classes", "stem", "width", "shortcut")}
    layers = values["model.layers"]
    csc = {key: values[f"csc.{key}"] for key in ("steps", "lambda", "mu", "nonnegative", "step_size")}
    csc["step_size"] = None if csc["step_size"] == "auto" else csc["step_size"]
    return {**model, "layers": layers if isinstance(layers, list) else None, "csc": csc,
            "mean": values["data.mean"], "std": values["data.std"], "image_size": values["data.image_size"]}


def find_checkpoint(path):
    """`path` itself if it is a checkpoint; for a run its best checkpoint, or the newest one if none was evaluated."""
    if os.path.exists(os.path.join(path, "MANIFEST")):
        return path
    folder, found = os.path.join(path, "checkpoints"), []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        state = os.path.join(folder, name, "state.json")
        if re.fullmatch(r"step-\d{8}", name) and os.path.exists(state):
            with open(state, encoding="utf-8") as file:
                top1 = json.load(file)["top1"]
            found.append((-1 if top1 is None else top1, name))
    if not found:
        raise Problem(f"{path}: neither a checkpoint nor a run that has one")
    return os.path.join(folder, max(found)[1])


def load_weights(net, tensors, path):
    """Loads all parameters and running statistics of net. Missing or unknown tensors are errors."""
    own = {name for name in net.state_dict() if not name.endswith("num_batches_tracked")}
    given = {name for name in tensors if not name.endswith("num_batches_tracked")}
    for names, what in ((own - given, "lacks"), (given - own, "has, and the network does not,")):
        if names:
            raise Problem(f"{path}: {what} {len(names)} tensors, first '{sorted(names)[0]}'")
    for name, tensor in net.state_dict().items():
        if name in own and tensor.shape != tensors[name].shape:
            raise Problem(f"{path}: '{name}' is {tuple(tensors[name].shape)}, the network's is {tuple(tensor.shape)}")
        if name in own and not torch.isfinite(tensors[name]).all():
            raise Problem(f"{path}: '{name}' has values that are not finite")
    net.load_state_dict({name: tensors[name].float() for name in own}, strict=False)
    net.normalize_atoms()


def load(path, averaged=True, converge=True):
    """Loads the network of a checkpoint or run, in evaluation mode. averaged: use the averaged weights if the run kept them, as
    csc-eval does. converge: compute converged step sizes, as csc-eval does; otherwise use the stored ones, from which the next
    training step would start."""
    path = find_checkpoint(path)
    net = Net(**net_config(read_config(os.path.join(path, "config.yaml"))))
    weights = read_safetensors(os.path.join(path, "model.safetensors"))
    others = {}
    for name in sorted(os.listdir(path)):
        if re.fullmatch(r"optimizer(-\d{5}-of-\d{5})?\.safetensors", name):
            others.update(read_safetensors(os.path.join(path, name)))
    averages = {name: others[f"ema.{name}"] for name in weights if f"ema.{name}" in others}
    load_weights(net, averages if averaged and averages else weights, path)
    if not converge:
        for name, layer in net.csc_layers().items():
            if not layer.step_size:
                height, width, _ = others[f"power.{name}"].shape
                layer.eta_at[height, width] = float(others[f"eta.{name}"])
    return net.eval()


# ---- weights from elsewhere ----

TORCHVISION = [(r"conv1\.", "layer0.0."), (r"bn1\.", "layer0.1."), (r"fc\.", "linear."),
               (r"(layer\d\.\d+)\.downsample\.", r"\1.shortcut.")]


def read_weights(path, trust=False):
    """The tensors by name of a .safetensors or of a PyTorch file (.pth, .pth.tar), directly or under `state_dict`."""
    if path.endswith(".safetensors"):
        return read_safetensors(path)
    with open(path, "rb") as file:
        packed = file.read(1) in (b"P", b"\x80")  # a zip archive or a pickle, as PyTorch writes them
    try:
        found = torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:  # pickle, zip and PyTorch raise many kinds of exceptions
        reason = (str(error).split("WeightsUnpickler error: ")[-1].strip() or "cut short").splitlines()[0]
        if not packed:
            reason = "neither a PyTorch file nor .safetensors"
        refused = packed and not trust and isinstance(error, pickle.UnpicklingError) and (
            re.match("Unsupported|Trying", reason))
        hint = "; if you trust its author, --trust lets it run the code that it contains" if refused else ""
        raise Problem(f"{path}: {reason}{hint}") from None
    for key in ("state_dict", "model", "net"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(torch.is_tensor(t) for t in found.values()):
        raise Problem(f"{path}: has no dictionary of tensors")
    return found


def published_names(tensors):
    """The tensors by csc-train's names: without DataParallel's prefix, and with torchvision's names translated."""
    tensors = {re.sub(r"^module\.", "", name): tensor for name, tensor in tensors.items()}
    if "conv1.weight" in tensors and "fc.weight" in tensors:
        for pattern, ours in TORCHVISION:
            tensors = {re.sub("^" + pattern, ours, name): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def infer_config(tensors, path):
    """The configuration of the network that has these weights."""
    def has(pattern):
        return any(re.fullmatch(pattern, name) for name in tensors)

    first = tensors.get("layer0.0.dn.weight", tensors.get("layer0.0.weight"))
    if first is None or "linear.weight" not in tensors:
        raise Problem(f"{path}: its tensors are not of a network of csc-train, of the published code or of torchvision "
                      f"(it has '{sorted(tensors)[0]}')")
    deep = has(r"layer1\..*conv3\..*weight")
    depth = 50 if deep else 34 if has(r"layer3\.(layers\.)?5\..*") else 18
    every = has(r"layer1\.layers\..*")
    sparse = "layer0.0.dn.weight" in tensors
    return {"arch": ("sdnet" if sparse else "resnet") + str(depth) + ("-all" if every else ""),
            "width": first.shape[0], "stem": "imagenet" if first.shape[-1] == 7 else "cifar",
            "classes": tensors["linear.weight"].shape[0], "shortcut": not every or has(r"layer2\..*shortcut\..*")}


def convert(path, trust=False, ignore=()):
    """A Net with the weights of a published .pth.tar, of a ResNet of torchvision, or of a .safetensors. ignore: patterns of
    tensor names to leave out."""
    tensors = published_names(read_weights(path, trust))
    tensors = {name: t for name, t in tensors.items() if not any(fnmatch.fnmatch(name, pattern) for pattern in ignore)}
    if not tensors:
        raise Problem(f"{path}: no tensors left")
    config = infer_config(tensors, path)
    if config["stem"] == "imagenet":
        config.update(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], image_size=224)
    net = Net(**config)
    load_weights(net, tensors, path)
    return net.eval()


def save_weights(net, path):
    """Writes the file that csc-train's model.init_from reads."""
    write_safetensors(path, {n: t for n, t in net.state_dict().items() if not n.endswith("num_batches_tracked")})


# ---- images in, networks out ----


def read_cifar(path, limit=None):
    """Reads CIFAR-10's binary format: pixels (N,3,32,32) in 0..1 and labels (N)."""
    records = numpy.fromfile(path, numpy.uint8)
    if records.size == 0 or records.size % 3073:
        raise Problem(f"{path}: not a file of CIFAR-10's records of 3,073 bytes")
    records = records.reshape(-1, 3073)[:limit]
    return torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).astype(numpy.float32) / 255), torch.from_numpy(
        records[:, 0].astype(numpy.int64))


def all_logits(net, pixels, batch=100):
    with torch.no_grad():
        return torch.cat([net(pixels[i:i + batch]) for i in range(0, len(pixels), batch)])


def export_onnx(net, path, opset=13):
    """Writes an ONNX network from `pixels` (N,3,S,S) in 0..1 to `logits`. S is the training image size; N is free."""
    size = net.config["image_size"]
    example = torch.rand(2, 3, size, size)
    with torch.no_grad():
        net(example)  # computes the step sizes before the network is traced
    old = torch.__version__.startswith("1.") or re.match(r"2\.[0-4]\.", torch.__version__)
    torch.onnx.export(net, (example,), path, input_names=["pixels"], output_names=["logits"], opset_version=opset,
                      dynamic_axes={"pixels": {0: "images"}, "logits": {0: "images"}}, **({} if old else {"dynamo": False}))


def main():
    parser = argparse.ArgumentParser(description="csc-train's networks in PyTorch",
                                     epilog="exit codes: 0 done; 2 usage; 65 bad data; 74 input or output failed")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("convert", help="convert weights of the published code or of torchvision to .safetensors for model.init_from")
    one.add_argument("weights", help=".pth, .pth.tar or .safetensors")
    one.add_argument("out", help=".safetensors")
    one.add_argument("--trust", action="store_true", help="let a PyTorch file run the code that it may contain")
    one.add_argument("--ignore", metavar="PATTERN", action="append", default=[], help="leave out tensors whose names match")
    one = commands.add_parser("logits", help="write the logits of images in CIFAR-10's binary format, as csc-eval --logits does")
    one.add_argument("checkpoint", help="checkpoint or run directory")
    one.add_argument("images", help="data_batch_N.bin or test_batch.bin")
    one.add_argument("out", help=".safetensors")
    one.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    one = commands.add_parser("onnx", help="export the network of a checkpoint as ONNX, from pixels in 0..1 to logits")
    one.add_argument("checkpoint", help="checkpoint or run directory")
    one.add_argument("out", help=".onnx")
    one.add_argument("--opset", type=int, default=13, metavar="N", help="(default: 13)")
    a = parser.parse_args()
    try:
        if a.command == "convert":
            net = convert(a.weights, a.trust, a.ignore)
            save_weights(net, a.out)
            print(f"{a.out}: for " + " ".join(f"model.{key}={str(net.config[key]).lower()}" for key in
                                               ("arch", "stem", "width", "classes", "shortcut")) + f" model.init_from={a.out}")
        elif a.command == "logits":
            pixels, labels = read_cifar(a.images, a.limit)
            logits = all_logits(load(a.checkpoint), pixels)
            write_safetensors(a.out, {"logits": logits, "labels": labels})
            print(f"{a.out}: {len(labels)} images, top-1 {100 * float((logits.argmax(1) == labels).float().mean()):.2f}%")
        else:
            export_onnx(load(a.checkpoint), a.out, a.opset)
            print(f"{a.out}: written")
    except Problem as problem:
        print(f"csc_torch.py: error: {problem}", file=sys.stderr)
        return 65
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        print(f"csc_torch.py: error: {where}{problem.strerror or problem}", file=sys.stderr)
        return 74
    return 0


if __name__ == "__main__":
    sys.exit(main())
