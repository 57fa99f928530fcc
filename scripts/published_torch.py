"""The PyTorch networks that csc-train is compared with: a textbook ResNet-18, and SDNets with the same work as the published code,
either written here or from a checkout of that code. compare-pytorch and gpu-check use them.

Besides two FISTA steps by autograd, each forward pass computes a reconstruction that is not used. Before each step every layer
runs up to 50 power iterations for its step size and copies the result of each to the host.
"""
import contextlib
import importlib.util
import io
import sys
import types

import torch
import torch.nn.functional as F
from torch import nn

NETWORKS = ("resnet18", "sdnet18", "sdnet18-all")


class Problem(Exception):
    """An error whose text is for the user."""


class Sparse(nn.Module):
    """Two FISTA steps with unit atoms, lambda 0.1 and nonnegative codes. It passes over memory as the published code does."""

    def __init__(self, channels, atoms, kernel, stride):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(atoms, channels, kernel, kernel))
        self.stride, self.pad, self.vector, self.eta = stride, kernel // 2, None, 0.1

    def analysis(self, x):
        return F.conv2d(x, self.weight, stride=self.stride, padding=self.pad)

    def synthesis(self, z, size):
        extra = [(n + 2 * self.pad - self.weight.shape[-1]) % self.stride for n in size]
        return F.conv_transpose2d(z, self.weight, stride=self.stride, padding=self.pad, output_padding=extra)

    @torch.no_grad()
    def update_stepsize(self):
        """Runs power iterations in the space of one image's codes, from the last step's vector."""
        if self.vector is None:
            return  # the size is unknown before the first image
        for _ in range(50):
            before = self.vector
            after = self.analysis(self.synthesis(before, self.size))
            self.vector = after / after.norm()
            if float((self.vector - before).square().sum()) <= 1e-5:
                break
        self.eta = 0.9 / float(self.synthesis(self.vector, self.size).square().sum())

    def shrink(self, z):
        return F.relu(F.softshrink(z * 1.0, 0.1 * self.eta))  # 1.0: the elastic net's factor without its square term

    def forward(self, x):
        self.size = x.shape[-2:]
        with torch.no_grad():
            self.weight /= self.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        z = self.shrink(self.eta * self.analysis(x))
        r = x.repeat(1, 1, 1, 1) - self.synthesis(z, self.size)
        z = self.shrink(z + self.eta * self.analysis(r))
        rest = x.repeat(1, 1, 1, 1) - self.synthesis(z, self.size)
        _ = rest.pow(2).sum(), 0.1 * z.abs().sum() + 0 * z.pow(2).sum()  # the objective, which is not used
        if self.vector is None:
            self.vector = torch.randn(z[:1].shape, device=z.device) / z[:1].numel() ** 0.5
        return z


def convolution(channels, out, kernel, stride, sparse):
    if sparse:
        return Sparse(channels, out, kernel, stride)
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    def __init__(self, channels, out, stride, sparse):
        super().__init__()
        self.conv1, self.bn1 = convolution(channels, out, 3, stride, sparse), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = convolution(out, out, 3, 1, sparse), nn.BatchNorm2d(out)
        self.sparse, self.shortcut = sparse, nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(convolution(channels, out, 1, stride, False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn1(self.conv1(x))
        y = self.bn2(self.conv2(y if self.sparse else F.relu(y)))
        return F.relu(y + self.shortcut(x))


class Net(nn.Sequential):
    """One of NETWORKS with the same work as the published code; from x (N,3,H,W) to logits."""

    def __init__(self, name, size):
        stem_sparse, all_sparse, large = name != "resnet18", name.endswith("-all"), size > 64
        layers = [convolution(3, 64, 7 if large else 3, 2 if large else 1, stem_sparse), nn.BatchNorm2d(64)]
        if not stem_sparse:
            layers.append(nn.ReLU())
        if large:
            layers.append(Sparse(64, 64, 3, 2) if all_sparse else nn.MaxPool2d(3, 2, 1))
        channels = 64
        for stage in range(4):
            for i in range(2):
                layers.append(Block(channels, 64 << stage, 2 if stage and not i else 1, all_sparse))
                channels = 64 << stage
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000 if large else 10)]
        super().__init__(*layers)

    def update_stepsize(self):
        for layer in self.modules():
            if isinstance(layer, Sparse):
                layer.update_stepsize()


class Published(nn.Module):
    """sdnet18 or sdnet18-all from the published code in the folder `checkout`, with its shortcuts. It needs yacs, computes in fp32
    and prints the sizes of its inputs."""

    def __init__(self, checkout, name, size):
        super().__init__()
        if checkout not in sys.path:
            sys.path.insert(0, checkout)
        stands_in = "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None
        if stands_in:
            sys.modules["torchvision"] = types.ModuleType("torchvision")  # imported there, but not used by its networks
        try:
            config = importlib.import_module("Lib.config").config
            models = importlib.import_module({"sdnet18": "Lib.models.sdnet", "sdnet18-all": "Lib.models.sdnet_inverse"}[name])
        except ImportError as problem:
            raise Problem(f"{checkout} is not a checkout of the published code that runs here: {problem}") from problem
        finally:
            if stands_in:
                del sys.modules["torchvision"]
        large = size > 64
        config.DATASET.DATASET = "imagenet" if large else "cifar10"
        config.MODEL.NUM_CLASSES = 1000 if large else 10
        config.MODEL.IMAGE_SIZE = [size, size]
        config.MODEL.SHORTCUT = True  # its YAML files say no, but the reported networks have them
        build = models.SDNet18 if name == "sdnet18" else models.SDNet18_all
        self.net = build(num_classes=config.MODEL.NUM_CLASSES, cfg=config)
        self.size, self.met = size, False

    def update_stepsize(self):
        with contextlib.redirect_stdout(io.StringIO()):
            if not self.met:  # it does the same before it trains, to find the sizes of its codes
                with torch.no_grad():
                    self.net(torch.zeros(2, 3, self.size, self.size, device=next(self.parameters()).device))
                self.met = True
            self.net.update_stepsize()

    def forward(self, x):
        return self.net(x)[0]
