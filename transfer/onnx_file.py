"""A trained classifier as a .onnx file: for ONNX Runtime, on servers, in browsers, from C#, Java and others.

    session = onnxruntime.InferenceSession("signs.onnx")
    (probabilities,) = session.run(None, {"images": images})     # uint8 (N, size, size, 3), RGB, framed as in training
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])

The package tf2onnx converts it, which brings `onnx` but no second framework. Only those who ask for it need it.
"""

import json
import pathlib
import warnings

from common.program import stderr_kept_back

import tensorflow as tf

from common.writing import check_new_file, written_whole
from networks.network import Network
from transfer.saved_model import Served
from weights.heads import Head

OPSET = 17  # of 2022; ONNX Runtime 1.12 and later run it


def export(network: Network, head: Head, path: pathlib.Path) -> int:
    """Write the model, in float32, to `path`, whole or not at all. Returns its size in bytes.

    network: computing in float32. `BadInput` when the file is there already or cannot be written.
    """
    check_new_file(path, "--export")
    import tf2onnx  # slow to import, and optional

    model, size = Served(network, head), head.provenance.size
    signature = [tf.TensorSpec((None, size, size, 3), tf.uint8, name="images")]

    @tf.function(input_signature=signature, autograph=False)
    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(model.features(images) @ model.kernel + model.bias)}

    with stderr_kept_back(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph, _ = tf2onnx.convert.from_function(classify, input_signature=signature, opset=OPSET)
    for value in (*graph.graph.input, *graph.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:  # the batch, the only one that is open; tf2onnx numbers such names: unk__9
                dimension.dim_param = "N"
    graph.metadata_props.add(key="class_names", value=json.dumps(head.class_names))
    content = graph.SerializeToString()
    with written_whole(path) as whole:
        whole.write_bytes(content)
    return len(content)
