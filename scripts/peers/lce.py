"""Larq Compute Engine: binary convolutions in TensorFlow Lite. Its fast kernels are for ARM; elsewhere portable C++.

Its last wheel, 0.16, needs an environment of its own: requirements-lce.txt, Python 3.11 or older. Dense layers and the
first convolution stay float, as its converter leaves them.
"""
import importlib.metadata
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import larq
import larq_compute_engine
import numpy as np
import tensorflow as tf
from larq_compute_engine.tflite.python.interpreter import Interpreter

from .common import Skip
from .workloads import NETWORKS

VERSION = importlib.metadata.version("larq-compute-engine")
layers = tf.keras.layers


class KerasBuilder:
    """Builds a network in Keras, channels last, its binary layers with Larq."""

    def __init__(self):
        self.source = None

    def input(self, c, h, w):
        self.source = tf.keras.Input((h, w, c), batch_size=1)
        return self.source

    def conv(self, x, n, kernel, stride, pad, groups=1, binary=True):
        same = "same" if pad else "valid"
        if groups > 1:
            return layers.DepthwiseConv2D(kernel, stride, same)(x)
        if not binary:
            return layers.Conv2D(n, kernel, stride, same)(x)
        # Padding with ones is what its fast path wants.
        x = larq.layers.QuantConv2D(
            n, kernel, stride, same, pad_values=1.0, use_bias=False, input_quantizer="ste_sign",
            kernel_quantizer="ste_sign", kernel_constraint="weight_clip")(x)
        return layers.BatchNormalization(scale=False)(x)

    def dense(self, x, n, binary=True):
        return layers.Dense(n)(layers.Flatten()(x))

    def max_pool(self, x, kernel, stride, pad):
        return layers.MaxPool2D(kernel, stride, "same" if pad else "valid")(x)

    def avg_pool(self, x, kernel):
        return layers.AveragePooling2D(kernel)(x)

    def mean(self, x):
        return layers.GlobalAveragePooling2D()(x)

    def relu(self, x):
        return layers.ReLU()(x)

    def act(self, x):
        return x

    def add(self, x, y):
        return layers.Add()([x, y])


def prepare(load, variant, threads, directory):
    """A function that runs `load` once."""
    if load.kind == "gemm" or load.params.get("network", "binarynet-vgg") not in ("binarynet-vgg", "quicknet"):
        raise Skip("runs convolutions, BinaryNet's and its own network")
    b, p = KerasBuilder(), load.params
    if p.get("batch", 1) > 1:
        raise Skip("its converter makes models for one image")
    if load.kind == "network":
        y = NETWORKS[p["network"]](b)
    else:
        y = b.conv(b.input(p["c"], p["h"], p["h"]), p["n"], p["kernel"], 1, 1)
    path = os.path.join(directory, load.name.replace(" ", "_") + ".tflite")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.write(larq_compute_engine.convert_keras_model(tf.keras.Model(b.source, y)))
    with open(path, "rb") as file:
        interpreter = Interpreter(file.read(), num_threads=threads)
    x = np.random.default_rng(3).standard_normal(b.source.shape).astype(np.float32)

    def run():
        interpreter.predict(x)

    return run
