#!/usr/bin/env python3
"""Measures the training speed of csc-train's networks in PyTorch for scripts/gpu-check, on data that stays on the GPU.
Writes JSON after every figure:
{"torch":"...",
 "sdnet18-all":{"eager":IMG_S,"compiled":IMG_S,"published":IMG_S,"published_by":"...","published_batch":N},...}

Eager and compiled: bf16 autocast, channels last. Step sizes are computed only once, which spares PyTorch the power
iteration and the projection of atoms that csc-train does in every step. Published (SDNets only): the published code
if a checkout of it is given, else our own implementation of the same work; in fp32 and channels first, as that code
trains, with PyTorch's default of tf32 convolutions. A batch that does not fit the GPU's memory is halved. For what
PyTorch cannot train, null is written and a line says why.
"""
import argparse
import json
import os
import time

import torch

import csc_torch
import published_torch


def images_per_second(net, images, labels, steps, warmup, bf16=True):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    began = None
    for step in range(warmup + steps):
        if step == warmup:
            torch.cuda.synchronize()
            began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        if hasattr(net, "update_stepsize"):
            net.update_stepsize()
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=bf16):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
    torch.cuda.synchronize()
    return steps * len(images) / (time.perf_counter() - began)


def measure(arch, size, batch, compiled):
    stem = "cifar" if size <= 64 else "imagenet"
    net = csc_torch.Net(arch=arch, classes=10, image_size=size, stem=stem).cuda().train()
    net = net.to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, size, size, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device="cuda")
    return images_per_second(torch.compile(net) if compiled else net, images, labels, 30, 10)


def measure_published(arch, size, batch, checkout):
    """Returns img/s and the batch that they were measured with."""
    while True:
        try:
            net = published_torch.Published(checkout, arch, size) if checkout else published_torch.Net(arch, size)
            images = torch.rand(batch, 3, size, size, device="cuda")
            labels = torch.randint(10, (batch,), device="cuda")
            return images_per_second(net.cuda().train(), images, labels, 10, 3, bf16=False), batch
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
        net = images = labels = None
        torch.cuda.empty_cache()
        batch //= 2


def write(results, path):
    with open(path + ".new", "w", encoding="utf-8") as out:
        json.dump(results, out)
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--published", metavar="FOLDER", help="a checkout of the published SDNet code")
    parser.add_argument("--networks", default=",".join(published_torch.NETWORKS),
                        help="a list of them, separated by commas")
    parser.add_argument("--ways", default="compiled,eager,published", help="a list of them, separated by commas")
    parser.add_argument("--out", required=True)
    a = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    results = {"torch": torch.__version__}

    def attempt(arch, what, call):
        try:
            return call()
        except Exception as problem:  # one network's failure must not hide the others
            print(f"{arch}, {what}: {type(problem).__name__}: {problem}")
            return None

    ways = a.ways.split(",")
    for arch in a.networks.split(","):
        speeds = results[arch] = {}
        for what in [way for way in ways if way != "published"]:
            speed = attempt(arch, what, lambda w=what: measure(arch, a.size, a.batch, w == "compiled"))
            speeds[what] = speed and round(speed, 1)
            print(arch, what, speeds[what], flush=True)
            write(results, a.out)
        if arch != "resnet18" and "published" in ways:
            done = attempt(arch, "published", lambda: measure_published(arch, a.size, a.batch, a.published))
            speeds["published"], speeds["published_batch"] = (round(done[0], 1), done[1]) if done else (None, None)
            speeds["published_by"] = "that code" if a.published else "a form of our own"
            print(arch, f"published ({speeds['published_by']}, batch {speeds['published_batch']})", speeds["published"],
                  flush=True)
            write(results, a.out)


if __name__ == "__main__":
    main()
