#!/usr/bin/env python3
"""Makes golden/NAME.json: one SGD step of a small network, in float64, kept as norms and projections.

    golden_small.py ORACLE.py OUT_DIR [--seeds N]

ORACLE.py is the independent PyTorch implementation (class Net, sgd_steps, shrink, unit_atoms); it needs PyTorch >= 1.13
and NumPy.  test_golden_small.c builds the same initial state and batch from the seed and compares.  Both sides draw

    stream(seed, name): splitmix64 (Steele et al. 2014) started at FNV-1a-64(name) + seed * 0x9e3779b97f4a7c15
    n: the sum of the four 16-bit halves of one draw, less 131070: an integer, nearly normal, deviation 65536 / sqrt(3)

one stream per tensor, in file order; what follows is double arithmetic, rounded once to float:

    convolution (D,C,k,k)   n sqrt(6 / (C k k)) / 65536      dictionary     n / |n| per atom
    linear.weight (K,C)     n sqrt(3 / C) / 65536            norm's weight  1 + n / 524288
    biases                  n / 262144
    running_mean            mean + std n / 262144            running_var    std std (1 + n / 262144)
    labels (stream labels)  draw >> 33 mod classes
    pixels (stream images)  (N,H,W,3): (draw >> 60) 9 + (coarse >> 60) 8, where coarse is the draw of its 8x8 cell
                            from stream coarse, (N,ceil(H/8),ceil(W/8),3); then (p / 255 - mean) / std of CIFAR-10
    probe vectors           n / 32768, streams NAME/1 and NAME/2

where mean and std are those of a norm's input over the batch, from `statistics`.  The weight of the last norm of a
block is `gain` times that.  Of seeds 1..N (40) the one is kept whose gradient changes least (`sensitivity`, relative)
when every weight and pixel moves by a relative 2^-20, so that fp32 can tell and no rounding flips a code.

A file: `hyper`, `sensitivity`, `statistics`, `loss` (training, on the batch), `logits` (evaluation, before the step),
and per tensor the norm and two projections: `gradients` (without decay), `change` (of a parameter in the step),
`running` (change of the statistics).
"""
import importlib.util
import json
import math
import os
import sys

import numpy
import torch

GAMMA = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
COMMON = dict(stem="cifar", size=16, batch=4, classes=5, width=4, lam=0.1, mu=0.0, steps=2, nonnegative=True,
              shortcut=True, gain=0.25, eta=0.125, lr=0.5, momentum=0.9, weight_decay=5e-4, nesterov=True)
CASES = {
    "resnet18": dict(arch="resnet18"),
    "sdnet18": dict(arch="sdnet18", nesterov=False),
    "sdnet18-imagenet": dict(arch="sdnet18", stem="imagenet", size=43),
    "sdnet18-all": dict(arch="sdnet18-all"),
    "sdnet18-all-noshortcut": dict(arch="sdnet18-all", shortcut=False, gain=1.0, lam=0.05, size=17, batch=6),
    "sdnet18-all-elastic": dict(arch="sdnet18-all", gain=0.125, steps=4, mu=0.25, lam=0.05, nesterov=False),
    "sdnet18-all-twosided": dict(arch="sdnet18-all", nonnegative=False, lam=0.2, momentum=0.0, nesterov=False),
    "sdnet18-all-imagenet": dict(arch="sdnet18-all", stem="imagenet", size=43),
    "sdnet50-all": dict(arch="sdnet50-all", gain=0.0625, lam=0.05),
}


# ------------------------------------------------------------------ the generator
def draws(seed, name, count):
    start = 0xCBF29CE484222325
    for byte in name.encode():
        start = (start ^ byte) * 0x100000001B3 & MASK
    z = (numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(GAMMA)
         + numpy.uint64((start + seed * GAMMA) & MASK))
    z = (z ^ z >> numpy.uint64(30)) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> numpy.uint64(27)) * numpy.uint64(0x94D049BB133111EB)
    return z ^ z >> numpy.uint64(31)


def integers(seed, name, count):
    u = draws(seed, name, count)
    return sum((u >> numpy.uint64(16 * i) & numpy.uint64(0xFFFF)).astype(numpy.int64) for i in range(4)) - 131070


def rounded(values, shape):
    return torch.from_numpy(values.astype(numpy.float32).astype(numpy.float64).reshape(shape))


def parameter(seed, name, shape, gain):
    n = integers(seed, name, math.prod(shape))
    if name.endswith(".dn.weight"):
        rows = n.reshape(shape[0], -1)
        return rounded(rows / numpy.sqrt((rows * rows).sum(1, keepdims=True).astype(numpy.float64)), shape)
    if len(shape) == 4:
        return rounded(n * (math.sqrt(6.0 / (shape[1] * shape[2] * shape[3])) / 65536), shape)
    if len(shape) == 2:
        return rounded(n * (math.sqrt(3.0 / shape[1]) / 65536), shape)
    return rounded(n / 262144 if name.endswith(".bias") else gain * (1 + n / 524288), shape)


def images(seed, h, oracle):
    n, s = h["batch"], h["size"]
    cells = -(-s // 8)
    fine = (draws(seed, "images", n * s * s * 3) >> numpy.uint64(60)).reshape(n, s, s, 3)
    coarse = (draws(seed, "coarse", n * cells * cells * 3) >> numpy.uint64(60)).reshape(n, cells, cells, 3)
    at = numpy.arange(s) // 8
    pixels = (fine * numpy.uint64(9) + coarse[:, at][:, :, at] * numpy.uint64(8)).astype(numpy.float64)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - oracle.MEAN) / oracle.STD
    return x.float().double()


def labels(seed, h):
    return torch.from_numpy(((draws(seed, "labels", h["batch"]) >> numpy.uint64(33))
                             % numpy.uint64(h["classes"])).astype(numpy.int64))


# ------------------------------------------------------------------ the step
def build(oracle, seed, h):
    net = oracle.Net(h["arch"], h["stem"], h["classes"], 1, h["width"], lam=h["lam"], mu=h["mu"], steps=h["steps"],
                     nonnegative=h["nonnegative"], shortcut=h["shortcut"], eta=h["eta"])
    last = ".bn3." if net.bottleneck else ".bn2."
    for name, p in net.params.items():
        net.params[name] = parameter(seed, name, tuple(p.shape), h["gain"] if last in name else 1)
    return net


def set_statistics(oracle, net, seed, x):
    """Running statistics near the batch's: per norm the mean and deviation of its input, three digits of each."""
    table, batch_norm = {}, oracle.F.batch_norm

    def watched(v, mean, *rest):
        name = next(k for k, b in net.buffers.items() if b is mean)[:-len(".running_mean")]
        table[name] = [float("%.3g" % v.mean()), float("%.3g" % v.std())]
        return batch_norm(v, mean, *rest)

    oracle.F.batch_norm = watched
    try:
        with torch.no_grad():
            net.forward(x)
    finally:
        oracle.F.batch_norm = batch_norm
    for tensor, buffer in net.buffers.items():
        mean, std = table[tensor[:tensor.rindex(".")]]
        n = integers(seed, tensor, len(buffer)) / 262144
        net.buffers[tensor] = rounded(std * std * (1 + n) if tensor.endswith("_var") else mean + std * n, len(n))
    return table


def step(oracle, net, x, y, h):
    """logits, loss, gradients, parameters' change, running statistics' change"""
    before = {k: v.clone() for k, v in net.state().items()}
    logits = net.forward(x, train=False).detach()
    for p in net.params.values():
        p.requires_grad_(True)
    loss = oracle.F.cross_entropy(net.forward(x), y)
    gradients = dict(zip(net.params, torch.autograd.grad(loss, list(net.params.values()))))
    for k in net.buffers:
        net.buffers[k] = before[k].clone()
    list(oracle.sgd_steps(net, [(x, y)], h["lr"], h["momentum"], h["weight_decay"], h["nesterov"]))
    change = {k: v.detach().double() - before[k].double() for k, v in net.state().items()}
    return (logits.double(), float(loss), {k: v.double() for k, v in gradients.items()},
            {k: change[k] for k in net.params}, {k: change[k] for k in net.buffers})


def summary(seed, name, t):
    flat = t.detach().reshape(-1).numpy()
    probes = [float(flat @ (integers(seed, f"{name}/{i}", flat.size) / 32768)) for i in (1, 2)]
    return [float(numpy.sqrt((flat * flat).sum()))] + probes


def relative(got, want):
    got, want = numpy.concatenate([numpy.ravel(v) for v in got]), numpy.concatenate([numpy.ravel(v) for v in want])
    return float(numpy.linalg.norm(got - want) / numpy.linalg.norm(want))


def nudged(t, draws_of):
    """Every value moved by a relative 2**-20, up or down."""
    sign = 1 - 2 * (draws_of(t.numel()) >> numpy.uint64(63)).astype(numpy.float64)
    return t * (1 + torch.from_numpy(sign.reshape(t.shape)) * 2.0 ** -20)


def gradients_of(oracle, seed, h, nudge=0):
    net, x = build(oracle, seed, h), images(seed, h, oracle)
    if nudge:
        x = nudged(x, lambda n: draws(seed, f"nudge {nudge}", n))
        net.params = {k: nudged(p, lambda n: draws(seed, f"nudge {nudge} {k}", n)) for k, p in net.params.items()}
    for p in net.params.values():
        p.requires_grad_(True)
    loss = oracle.F.cross_entropy(net.forward(x), labels(seed, h))
    return torch.autograd.grad(loss, list(net.params.values()))


def sensitivity(oracle, seed, h):
    """The larger relative change of the gradient under two such nudges."""
    exact = gradients_of(oracle, seed, h)
    return max(relative(gradients_of(oracle, seed, h, nudge), exact) for nudge in (1, 2))


def make(oracle, name, h, seeds):
    least, seed = min((sensitivity(oracle, s, h), s) for s in range(1, seeds + 1))
    x, y = images(seed, h, oracle), labels(seed, h)
    net = build(oracle, seed, h)
    statistics = set_statistics(oracle, net, seed, x)
    logits, loss, *tables = step(oracle, net, x, y, h)
    tables = [{k: summary(seed, k, v) for k, v in t.items()} for t in tables]
    print(f"{name:24} seed {seed:3} sensitivity {least:.1e} loss {loss:.6f}", flush=True)
    return dict(hyper=dict(h, seed=seed), sensitivity=least, statistics=statistics, loss=loss, logits=logits.tolist(),
                gradients=tables[0], change=tables[1], running=tables[2])


# ------------------------------------------------------------------ the file
def text_of(value, depth=0):
    """JSON with eight digits and one tensor a line."""
    if isinstance(value, float):
        return "%.8g" % value
    if isinstance(value, list):
        return "[" + ", ".join(text_of(v) for v in value) + "]"
    if isinstance(value, dict) and depth < 2:
        space = "\n" + " " * (depth + 1)
        return "{" + ",".join(f"{space}{json.dumps(k)}: {text_of(v, depth + 1)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def main():
    if len(sys.argv) not in (3, 5):
        sys.exit(__doc__)
    spec = importlib.util.spec_from_file_location("oracle", sys.argv[1])
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    torch.set_num_threads(1)
    seeds = int(sys.argv[4]) if len(sys.argv) == 5 else 40
    os.makedirs(sys.argv[2], exist_ok=True)
    for name, changed in CASES.items():
        with open(os.path.join(sys.argv[2], name + ".json"), "w") as f:
            f.write(text_of(make(oracle, name, {**COMMON, **changed}, seeds)) + "\n")


if __name__ == "__main__":
    main()
