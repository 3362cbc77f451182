"""What is measured: matrix products, single convolutions, and whole networks, described once for all programs.

Networks are functions that call the methods of a builder, which each program implements in its own terms:

    input(c, h, w)                                          a map of floats
    conv(x, n, kernel, stride, pad, groups=1, binary=True)  a convolution whose BatchNorm is folded away
    dense(x, n, binary=True)                                on all elements of `x`
    max_pool(x, kernel, stride, pad), avg_pool(x, kernel), mean(x)
    act(x)                                                  what stands between layers: ReLU, or nothing where bits do
    relu(x), add(x, y)

The input of a binary layer is binarised by the layer in programs with binary layers; the others compute it in float.
"""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Workload:
    """One row of the result. `params` are those of the kind: see `all_workloads`."""

    name: str
    group: str
    kind: str
    params: dict = field(hash=False)
    # Whether the peers also take their turn with all threads, and whether `--quick` leaves it out.
    threaded: bool = False
    slow: bool = False


def vgg(b):
    """BinaryNet's CIFAR-10 network (Courbariaux et al. 2016)."""
    x = b.input(3, 32, 32)
    for i, (n, pool) in enumerate([(128, 0), (128, 1), (256, 0), (256, 1), (512, 0), (512, 1)]):
        x = b.conv(x, n, 3, 1, 1, binary=i > 0)
        x = b.act(b.max_pool(x, 2, 2, 0) if pool else x)
    for _ in range(2):
        x = b.act(b.dense(x, 1024))
    return b.dense(x, 10)


def mlp(b):
    """BinaryNet's MNIST network (Courbariaux et al. 2016)."""
    x = b.input(784, 1, 1)
    for i in range(3):
        x = b.act(b.dense(x, 4096, binary=i > 0))
    return b.dense(x, 10)


def _resnet(b, block):
    x = b.relu(b.conv(b.input(3, 224, 224), 64, 7, 2, 3, binary=False))
    x = b.max_pool(x, 3, 2, 1)
    for stage, n in enumerate([64, 128, 256, 512]):
        for unit in range(2):
            x = block(b, x, n, 2 if stage and not unit else 1, unit == 0)
    return b.dense(b.mean(b.relu(x)), 1000, binary=False)


def resnet18(b):
    """ResNet-18 (He et al. 2016), binarised as by Yang et al. (2017): the shortcuts' 1x1 convolutions too."""

    def block(b, x, n, stride, project):
        y = b.act(b.conv(x, n, 3, stride, 1))
        y = b.conv(y, n, 3, 1, 1)
        return b.act(b.add(y, b.conv(x, n, 1, stride, 0) if project else x))

    return _resnet(b, block)


def birealnet18(b):
    """Bi-Real net (Liu et al. 2018): a shortcut around each convolution."""

    def block(b, x, n, stride, _):
        for s in (stride, 1):
            shortcut = b.conv(b.avg_pool(x, 2), n, 1, 1, 0, binary=False) if s > 1 else x
            x = b.add(b.act(b.conv(x, n, 3, s, 1)), shortcut)
        return x

    return _resnet(b, block)


def quicknet(b):
    """QuickNet (Bannink et al. 2021)."""
    x = b.relu(b.conv(b.input(3, 224, 224), 16, 3, 2, 1, binary=False))
    x = b.conv(x, 16, 3, 2, 1, groups=16, binary=False)
    x = b.conv(x, 64, 1, 1, 0, binary=False)
    for c, n in [(64, 64), (64, 128), (128, 256), (256, 512)]:
        if c < n:
            x = b.max_pool(b.relu(x), 3, 1, 1)
            x = b.conv(x, c, 3, 2, 1, groups=c, binary=False)
            x = b.conv(x, n, 1, 1, 0, binary=False)
        for _ in range(4):
            x = b.add(x, b.act(b.conv(x, n, 3, 1, 1)))
    return b.dense(b.mean(b.relu(x)), 1000, binary=False)


NETWORKS = {
    "binarynet-vgg": vgg,
    "binarynet-mlp": mlp,
    "resnet18-imagenet": resnet18,
    "birealnet18": birealnet18,
    "quicknet": quicknet,
}

# Height and width, input channels, filters of BinaryNet's 3x3 convolutions.
CONVS = [(32, 128, 128), (16, 128, 256), (16, 256, 256), (8, 256, 512), (8, 512, 512)]
# Input channels, filters, kernel size of figures 1 to 3 of BMXNet's paper (Yang et al. 2017), batches of 200 8x8 maps.
BMXNET = (
    [(c, 64, 5) for c in (64, 128, 256, 512)]
    + [(256, n, 5) for n in (16, 32, 128, 256)]
    + [(256, 64, k) for k in (3, 7, 9)]
)


def all_workloads():
    """Every workload, in the order of the table.

    gemm: an m x k matrix of bits times a k x n one; with `binarize` the first is floats, whose packing counts.
    conv: h x h x c, n filters, `kernel`, padded to the same size. network: its name and batch.
    """
    loads = [
        Workload(name, "networks", "network", {"network": name, "batch": 1}, threaded=True) for name in NETWORKS
    ]
    batch = {"network": "binarynet-vgg", "batch": 64}
    loads.append(Workload("binarynet-vgg batch 64", "networks", "network", batch, threaded=True))
    for h, c, n in CONVS:
        name = f"conv 3x3 {c}->{n} @{h}"
        loads.append(Workload(name, "convolutions", "conv", {"h": h, "c": c, "n": n, "kernel": 3}))
    for size in (1024, 4096, 8192):
        shape = {"m": size, "n": size, "k": size, "binarize": False}
        loads.append(Workload(f"gemm {size}^3", "products", "gemm", shape, slow=size > 4096))
    shape = {"m": 1, "n": 4096, "k": 4096, "binarize": False}
    loads.append(Workload("gemv 4096", "products", "gemm", shape))
    for binarize in (False, True):
        group = "BMXNet's shapes, " + ("from floats" if binarize else "from bits")
        for c, n, k in BMXNET:
            shape = {"m": 200 * 64, "n": n, "k": c * k * k, "binarize": binarize}
            slow = (c, n, k) not in [(64, 64, 5), (256, 64, 5), (256, 256, 5)]
            name = f"c{c} n{n} {k}x{k}" + (" floats" if binarize else "")
            loads.append(Workload(name, group, "gemm", shape, slow=slow))
    return loads
