"""Makes the networks of this folder, with random weights, and what TensorFlow Lite's built-in kernels make of one input.

Needs tensorflow 2.15 and larq-compute-engine 0.16, on x86-64: python make.py
"""

import pathlib

import larq_compute_engine
import numpy as np
import tensorflow as tf

FOLDER = pathlib.Path(__file__).parent
SHAPE = (10, 10, 3)
layers = tf.keras.layers


def within(low, high):
    """Quantised to codes of this range, so that scales are fractions of small numbers and halves are frequent."""
    return layers.Lambda(lambda x: tf.quantization.fake_quant_with_min_max_args(x, low, high))


def sums(x):
    a = within(-3.0, 5.0)(layers.Conv2D(9, 3, padding="same")(within(-1.0, 1.0)(x)))
    b = within(-4.0, 6.0)(layers.Conv2D(9, 3, padding="same")(a))
    c = within(-7.0, 5.0)(layers.Add()([a, b]))
    return within(-5.0, 9.0)(layers.Subtract()([c, b]))


def lanes(x):
    x = within(-3.0, 5.0)(layers.Conv2D(13, 3, strides=2, padding="same")(within(-1.0, 1.0)(x)))
    x = within(-4.0, 4.0)(layers.DepthwiseConv2D(3, padding="same")(x))
    return within(-4.0, 5.0)(layers.Conv2DTranspose(11, 3, strides=2, padding="same")(x))


def means(x):
    x = within(-2.0, 7.0)(layers.Conv2D(44, 3, strides=2)(within(-1.0, 1.0)(x)))
    return within(-1.0, 0.5)(layers.GlobalAveragePooling2D(keepdims=True)(x))


def gates(x):
    x = layers.Conv2D(12, 3, padding="same", activation="relu6")(x)
    gate = layers.Conv2D(12, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Conv2D(9, 3, strides=2, activation="tanh")(layers.Multiply()([x, gate]))
    return layers.Multiply()([x, x])


def slopes(x):
    x = layers.LeakyReLU(0.2)(layers.Conv2D(8, 3)(x))
    return layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(8, 3, strides=2)(x))


def averages(x):
    x = layers.Concatenate()([layers.Conv2D(8, 3, padding="same", activation="relu")(x), x])
    x = layers.AveragePooling2D(3, 2, padding="same")(x)
    total, mean = tf.reduce_sum(x, axis=[1, 2]), tf.reduce_mean(x, axis=3)
    return layers.Dense(9)(layers.Concatenate()([total, layers.Flatten()(mean)]))


def convert(model, random):
    if model.name in ("sums", "lanes", "means"):
        options = {"inference_input_type": tf.int8, "inference_output_type": tf.int8}
        options["experimental_default_int8_range"] = (-6.0, 6.0)
        return larq_compute_engine.convert_keras_model(model, **options)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    samples = [[random.normal(0, 1, (1, *SHAPE)).astype(np.float32)] for _ in range(16)]
    converter.representative_dataset = lambda: samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


for seed, build in enumerate((sums, lanes, means, gates, slopes, averages)):
    random = np.random.RandomState(seed)
    inputs = layers.Input(SHAPE, batch_size=1)
    model = tf.keras.Model(inputs, build(inputs), name=build.__name__)
    fan_in = [max(1, np.prod(w.shape[:-1])) if w.ndim > 1 else 10 for w in model.get_weights()]
    weights = zip(model.get_weights(), fan_in)
    model.set_weights([random.normal(0, 1 / np.sqrt(n), w.shape) for w, n in weights])
    file = convert(model, random)
    interpreter = tf.lite.Interpreter(
        model_content=file,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = source["quantization"]
    codes = np.round(random.normal(0, 0.7, (1, *SHAPE)) / scale) + zero
    codes = np.clip(codes, -128, 127).astype(np.int8)
    interpreter.set_tensor(source["index"], codes)
    interpreter.invoke()
    FOLDER.joinpath(f"{model.name}.tflite").write_bytes(file)
    np.save(FOLDER / f"{model.name}.x.npy", codes)
    np.save(FOLDER / f"{model.name}.y.npy", interpreter.get_tensor(target["index"]))
