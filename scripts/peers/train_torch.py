"""PyTorch, training: a process of its own that trains a network for some epochs and prints their times as JSON.

    python train_torch.py bmxnet-lenet FOLDER --pictures 5120 --batch 128 --threads 1 --binary

Given to it: the layers of onebit's recipe of the same name, oneDNN and MKL, the fused Adam, convolutions in NHWC
(`channels_last`, the faster order here), numbers smaller than normal flushed to 0, and all pictures in memory as the
floats that the network takes, so that an epoch is a shuffle and the steps. With `--binary` weights and activations are
signs as in onebit: float arithmetic on +1 and -1, gradient 1 where |x| <= 1, latent weights clipped to +-1 after each
step. Without, weights are floats and the signs of activations become `hardtanh`, whose gradient is the same.
"""
import argparse
import gzip
import json
import os
import time

import torch
from torch import nn


class Sign(torch.autograd.Function):
    """Sign, +1 for 0, whose gradient is that of `clip(x, -1, 1)`."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return gradient * (x.abs() <= 1)


class BinaryAct(nn.Module):
    def forward(self, x):
        return Sign.apply(x)


class BinaryConv(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, Sign.apply(self.weight), None)


class BinaryLinear(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, Sign.apply(self.weight))


def network(name, binary):
    """Layers of a recipe, and the divisor of pixels."""
    conv, dense, act = (BinaryConv, BinaryLinear, BinaryAct) if binary else (nn.Conv2d, nn.Linear, nn.Hardtanh)
    if name == "bmxnet-lenet":
        layers = [
            nn.Conv2d(1, 64, 5), nn.MaxPool2d(2), nn.Tanh(), nn.BatchNorm2d(64, eps=1e-3), act(),
            conv(64, 64, 5, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(64, eps=1e-3), act(), nn.Flatten(),
            dense(1024, 1000, bias=False), nn.BatchNorm1d(1000, eps=1e-3), nn.Tanh(), nn.Linear(1000, 10)]
        return nn.Sequential(*layers), 255.0
    sizes = [784, 1024, 1024, 1024]
    layers = [nn.Flatten()]
    for width, units in zip(sizes, sizes[1:]):
        layers += [dense(width, units, bias=False), nn.BatchNorm1d(units), act()]
    layers += [dense(1024, 10, bias=False), nn.BatchNorm1d(10)]
    return nn.Sequential(*layers), 1.0


def read(folder, name, header, count):
    """Bytes of a file of MNIST, gzipped or not."""
    path = os.path.join(folder, name)
    try:
        with (open(path, "rb") if os.path.exists(path) else gzip.open(path + ".gz", "rb")) as file:
            data = bytearray(file.read(header + count)[header:])
    except (OSError, EOFError) as error:
        raise SystemExit(f"{path}: cannot be read: {error}")
    if len(data) < count:
        raise SystemExit(f"{path}: has fewer pictures than {count}: give a smaller --pictures")
    return torch.frombuffer(data, dtype=torch.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["bmxnet-lenet", "mnist-mlp"])
    parser.add_argument("data")
    parser.add_argument("--pictures", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--binary", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    torch.set_flush_denormal(True)
    model, divisor = network(args.network, args.binary)
    model = model.to(memory_format=torch.channels_last)
    pixels = read(args.data, "train-images-idx3-ubyte", 16, args.pictures * 784).view(-1, 1, 28, 28)
    pixels = (pixels.float() / divisor).contiguous(memory_format=torch.channels_last)
    labels = read(args.data, "train-labels-idx1-ubyte", 8, args.pictures).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.rate, fused=True)
    latent = [layer.weight for layer in model if isinstance(layer, (BinaryConv, BinaryLinear))]
    loss_of = nn.CrossEntropyLoss()
    epochs = []
    for _ in range(args.epochs):
        wall, cpu, correct = time.perf_counter(), time.process_time(), 0
        for indices in torch.randperm(args.pictures).split(args.batch):
            output = model(pixels[indices])
            loss = loss_of(output, labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for weight in latent:
                    weight.clamp_(-1, 1)
                correct += (output.argmax(1) == labels[indices]).sum().item()
        epochs.append({
            "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu,
            "train_accuracy": correct / args.pictures})
    print(json.dumps({"version": torch.__version__, "epochs": epochs}))


if __name__ == "__main__":
    main()
