"""AlexNet up to fc7 as others compute it, for benchmark.py: the course's TensorFlow 1 graph, and ONNX Runtime."""

import numpy as np


def course_graph(weights, side):
    """fc7 as the course of 2017 computed it: TensorFlow 1's session, groups split and joined, the library's LRN."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, (None, side, side, 3))
        variables, feed = {}, {}
        for layer, arrays in weights.items():
            values = [v1.placeholder(tf.float32, array.shape) for array in arrays]
            feed |= dict(zip(values, arrays))
            variables[layer] = [v1.Variable(value) for value in values]

        def conv(x, layer, groups=1, stride=1):
            kernel, bias = variables[layer]
            halves = zip(tf.split(x, groups, 3), tf.split(kernel, groups, 3))
            parts = [v1.nn.conv2d(part, half, [1, stride, stride, 1], padding="SAME") for part, half in halves]
            return tf.nn.relu(tf.nn.bias_add(tf.concat(parts, 3), bias))

        def normalized_pool(x):
            x = tf.nn.local_response_normalization(x, depth_radius=2, alpha=2e-5, beta=0.75, bias=1.0)
            return v1.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], padding="VALID")

        x = normalized_pool(conv(v1.image.resize_images(images, (227, 227)), "conv1", stride=4))
        x = normalized_pool(conv(x, "conv2", groups=2))
        x = conv(conv(conv(x, "conv3"), "conv4", groups=2), "conv5", groups=2)
        x = tf.reshape(v1.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], padding="VALID"), (-1, 9216))
        fc7 = v1.nn.relu_layer(v1.nn.relu_layer(x, *variables["fc6"]), *variables["fc7"])
        session = v1.Session()
        session.run(v1.global_variables_initializer(), feed)
    return lambda batch: session.run(fc7, {images: batch})


def onnx_graph(weights):
    """fc7 of images (N, 3, 227, 227) by ONNX Runtime, without the resize; None where it is not installed."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    nodes, arrays, x = [], {}, "pictures"

    def add(kind, *inputs, **attributes):
        nonlocal x
        nodes.append(helper.make_node(kind, [x, *inputs], [f"{kind}{len(nodes)}"], **attributes))
        x = nodes[-1].output[0]

    def pool():
        add("MaxPool", kernel_shape=[3, 3], strides=[2, 2])

    for layer, padding, groups in (("conv1", 0, 1), ("conv2", 2, 2), ("conv3", 1, 1), ("conv4", 1, 2), ("conv5", 1, 2)):
        kernel, bias = weights[layer]
        arrays |= {f"{layer}/kernel": np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), f"{layer}/bias": bias}
        stride = 4 if layer == "conv1" else 1
        names = f"{layer}/kernel", f"{layer}/bias"
        add("Conv", *names, pads=[padding] * 4, strides=[stride] * 2, group=groups)
        add("Relu")
        if layer in ("conv1", "conv2"):
            add("LRN", size=5, alpha=1e-4, beta=0.75, bias=1.0)
            pool()
    pool()
    add("Flatten")
    for layer in ("fc6", "fc7"):
        arrays |= {f"{layer}/kernel": weights[layer][0], f"{layer}/bias": weights[layer][1]}
        add("Gemm", f"{layer}/kernel", f"{layer}/bias")
        add("Relu")
    ends = [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", 3, 227, 227])]
    ends = ends, [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", 4096])]
    initial = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model = helper.make_model(helper.make_graph(nodes, "alexnet", *ends, initial), ir_version=8)
    model.opset_import[0].version = 13
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"pictures": batch})
