"""AlexNet and GoogLeNet trained as others train them, for benchmark.py: Keras's `fit`, and PyTorch.

    model = keras_network(cards.ALEXNET, weights, head, side=227)  # images as `network.preprocess` makes them -> logits
    keras_fit(model, images, labels, batch=32)()                   # an epoch
    module = torch_network(cards.ALEXNET, weights, head)           # the same; None where PyTorch is not installed
    torch_steps(module, images, labels, batch=32, precision="float32")()

Both begin with the weights {layer: (kernel, bias)} that they are given, and with the head's, and train all of them.
"""

import numpy as np


def keras_network(card, weights, head, side):
    """The functional model, (N, side, side, 3) -> logits (N, classes)."""
    import keras
    import tensorflow as tf

    def layer_of(kind, arrays, x, *arguments, **settings):
        layer = kind(arrays[0].shape[-1], *arguments, kernel_initializer="zeros", **settings)  # none drawn in vain
        x = layer(x)
        layer.set_weights(arrays)
        return x

    def conv(x, name, groups=1, **settings):  # Keras computes groups, but processors have no gradient for them
        settings = dict(padding="same", activation="relu") | settings
        kernels, biases = (np.split(array, groups, axis=-1) for array in weights[name])
        parts = keras.ops.split(x, groups, axis=-1) if groups > 1 else [x]
        size = weights[name][0].shape[:2]
        parts = [layer_of(keras.layers.Conv2D, pair, part, size, **settings)
                 for *pair, part in zip(kernels, biases, parts)]  # fmt: skip
        return keras.layers.Concatenate()(parts) if groups > 1 else parts[0]

    def dense(x, arrays, activation="relu"):
        return layer_of(keras.layers.Dense, arrays, x, activation=activation)

    def normalized(x):
        return keras.layers.Lambda(lambda x: tf.nn.local_response_normalization(x, 2, 1.0, 2e-5, 0.75))(x)

    def pool(x):  # on even sides Caffe's last window overhangs by one
        return keras.layers.MaxPooling2D(3, 2, padding="valid" if x.shape[1] % 2 else "same")(x)

    def alexnet(x):
        x = pool(normalized(conv(x, "conv1", strides=4, padding="valid")))
        x = pool(normalized(conv(x, "conv2", groups=2)))
        x = conv(x, "conv3")
        x = conv(x, "conv4", groups=2)
        x = pool(conv(x, "conv5", groups=2))
        x = dense(keras.layers.Flatten()(x), weights["fc6"])
        return dense(x, weights["fc7"])

    def inception(x, at):
        branches = [
            conv(x, f"{at}/1x1"),
            conv(conv(x, f"{at}/3x3_reduce"), f"{at}/3x3"),
            conv(conv(x, f"{at}/5x5_reduce"), f"{at}/5x5"),
            conv(keras.layers.MaxPooling2D(3, 1, padding="same")(x), f"{at}/pool_proj"),
        ]
        return keras.layers.Concatenate()(branches)

    def googlenet(x):
        x = keras.layers.ZeroPadding2D(3)(x)
        x = normalized(pool(conv(x, "conv1/7x7_s2", strides=2, padding="valid")))
        x = pool(normalized(conv(conv(x, "conv2/3x3_reduce"), "conv2/3x3")))
        for modules in (["3a", "3b"], ["4a", "4b", "4c", "4d", "4e"], ["5a", "5b"]):
            x = x if modules[0] == "3a" else pool(x)
            for module in modules:
                x = inception(x, f"inception_{module}")
        return keras.layers.GlobalAveragePooling2D()(x)

    images = keras.Input((side, side, 3))
    below = {"alexnet": alexnet, "googlenet": googlenet}[card.name](images)
    return keras.Model(images, dense(below, [head.kernel, head.bias], activation=None))


def keras_fit(model, images, labels, batch):
    """A function: one epoch of the plainest training that Keras offers."""
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    return lambda: model.fit(images, labels, batch_size=batch, verbose=0)


def torch_network(card, weights, head):
    """The module, (N, 3, side, side) -> logits (N, classes); None where PyTorch is not installed."""
    try:
        import torch
        from torch import nn
    except ImportError:
        return None

    def filled(layer, kernel, bias):
        layer.weight.data = torch.tensor(np.ascontiguousarray(kernel))
        layer.bias.data = torch.tensor(bias)
        return layer

    def conv(name, groups=1, **settings):
        kernel, bias = weights[name]
        height, width, inputs, outputs = kernel.shape
        layer = nn.Conv2d(inputs * groups, outputs, (height, width), groups=groups, **settings)
        return nn.Sequential(filled(layer, kernel.transpose(3, 2, 0, 1), bias), nn.ReLU(inplace=True))

    def dense(kernel, bias):
        return filled(nn.Linear(*kernel.shape), kernel.T, bias)

    def flat_dense(kernel, bias):  # PyTorch flattens channels first
        rows = kernel.reshape(6, 6, 256, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
        return dense(rows, bias)

    def normalization():
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    class Inception(nn.Module):
        def __init__(self, at):
            super().__init__()
            self.branches = nn.ModuleList([
                conv(f"{at}/1x1"),
                nn.Sequential(conv(f"{at}/3x3_reduce"), conv(f"{at}/3x3", padding=1)),
                nn.Sequential(conv(f"{at}/5x5_reduce"), conv(f"{at}/5x5", padding=2)),
                nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv(f"{at}/pool_proj")),
            ])  # fmt: skip

        def forward(self, x):
            return torch.cat([branch(x) for branch in self.branches], dim=1)

    def inceptions(*modules):
        return [Inception(f"inception_{module}") for module in modules]

    def alexnet():
        return [
            conv("conv1", stride=4), normalization(), pool(),
            conv("conv2", padding=2, groups=2), normalization(), pool(),
            conv("conv3", padding=1),
            conv("conv4", padding=1, groups=2),
            conv("conv5", padding=1, groups=2), pool(),
            nn.Flatten(), flat_dense(*weights["fc6"]), nn.ReLU(inplace=True),
            dense(*weights["fc7"]), nn.ReLU(inplace=True),
        ]  # fmt: skip

    def googlenet():
        return [
            conv("conv1/7x7_s2", stride=2, padding=3), pool(), normalization(),
            conv("conv2/3x3_reduce"), conv("conv2/3x3", padding=1), normalization(), pool(),
            *inceptions("3a", "3b"), pool(),
            *inceptions("4a", "4b", "4c", "4d", "4e"), pool(),
            *inceptions("5a", "5b"), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ]  # fmt: skip

    below = {"alexnet": alexnet, "googlenet": googlenet}[card.name]()
    return nn.Sequential(*below, dense(head.kernel, head.bias))


def channels_first(images):
    """(N, H, W, 3) -> a tensor (N, 3, H, W), contiguous, as PyTorch's own readers give it."""
    import torch

    return torch.tensor(np.ascontiguousarray(np.transpose(images, (0, 3, 1, 2))))


def torch_steps(module, images, labels, batch, precision):
    """A function: one epoch on the processor, eagerly; "bfloat16" is PyTorch's automatic mixed precision."""
    import torch

    batches = list(zip(channels_first(images).split(batch), torch.tensor(labels).split(batch)))
    optimizer, loss_of = torch.optim.Adam(module.parameters()), torch.nn.CrossEntropyLoss()

    def epoch():
        for x, y in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = loss_of(module(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch
