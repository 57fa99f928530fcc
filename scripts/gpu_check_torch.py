#!/usr/bin/env python3
"""Training speed of csc-train's networks in PyTorch, for scripts/gpu-check: bf16 autocast, channels last, eager and
compiled, on data that stays on the GPU. Writes JSON members: "resnet18":{"eager":IMG_S,"compiled":IMG_S},...
A network that PyTorch cannot train gets null and a line that says why. Its step sizes are computed once: it is spared the power
iteration and the projection of atoms that csc-train does in every step."""
import argparse
import json
import time

import torch

import csc_torch

ARCHS = ("resnet18", "sdnet18", "sdnet18-all")


def images_per_second(net, images, labels, steps, warmup):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    began = None
    for step in range(warmup + steps):
        if step == warmup:
            torch.cuda.synchronize()
            began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
    torch.cuda.synchronize()
    return steps * len(images) / (time.perf_counter() - began)


def measure(arch, size, batch, compiled):
    net = csc_torch.Net(arch=arch, classes=10, image_size=size, stem="cifar" if size <= 64 else "imagenet").cuda().train()
    net = net.to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, size, size, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device="cuda")
    return images_per_second(torch.compile(net) if compiled else net, images, labels, 30, 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--out", required=True)
    a = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    results = {"torch": torch.__version__}
    for arch in ARCHS:
        results[arch] = {}
        for name, compiled in (("eager", False), ("compiled", True)):
            try:
                results[arch][name] = round(measure(arch, a.size, a.batch, compiled), 1)
            except Exception as problem:  # one network's failure must not hide the others
                results[arch][name] = None
                print(f"{arch}, {name}: {type(problem).__name__}: {problem}")
            print(arch, name, results[arch][name], flush=True)
        with open(a.out, "w") as out:
            out.write(json.dumps(results)[1:-1])


if __name__ == "__main__":
    main()
