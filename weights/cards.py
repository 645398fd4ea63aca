"""One card per network: its published weights, and everything else in which the networks differ.

A card says where the weights come from, what the network was trained to see, what a weights file must hold, and how
the network is fine-tuned. No code outside asks which network it has; it asks the card. `weights.reading.load(card)`
returns the weights themselves.
"""

import dataclasses
from typing import Literal

from common.errors import BadInput

LARGEST_SIZE = 1024  # pixels along a side; memory grows with its square, and no network here has seen such images


@dataclasses.dataclass(frozen=True)
class Source:
    """A file: its name in weights/, its addresses, tried in turn (empty: place it there yourself), and its SHA-1."""

    file: str
    urls: tuple[str, ...] = ()
    sha1: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallWeights:
    """Weights of a network that come with this repository, a file in weights/, see `weights.small`."""

    title: str  # after "the" or "Weights:"
    file: str
    sha256: str | None  # of the file; None: not checked
    command: str  # how it was made
    licence: str
    top1: float | None  # per cent of images that it was not made with; None: not measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """The facts about one network. One with an `application` is built by Keras, which also knows its arrays."""

    name: str  # as typed after --network
    title: str
    module: str  # module and class; `load` of the class returns the network with its weights
    file: str  # the name in weights/ under which the weights are looked for first
    urls: tuple[str, ...] = ()  # addresses of `file`, tried in turn
    other_files: tuple[Source, ...] = ()  # the same weights in other formats, tried after `file`
    licence: str
    input_size: int  # side of the square input in pixels
    smallest_size: int  # the smallest side that it computes features from
    fixed_layers: tuple[str, ...] = ()  # those that need `input_size`: their kernels read whole feature maps
    framing: Literal["squeeze", "crop"]  # how its training images became square: squeezed to 256 x 256, or scaled
    #   until the shorter side was 256, both then cut out of the centre
    mean_bgr: tuple[float, float, float]  # subtracted from pixels of 0-255, in the order blue, green, red
    shapes: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    #   layer -> kernel: (height, width, in / groups, out), or (in, out) if dense
    parameters: int  # kernels and biases together; a bias has one number per output
    top1: float  # per cent of the 50,000 ImageNet validation images, centre crop, as published
    top5: float
    bottleneck: str  # the layer whose output a new classifier is trained on
    bottleneck_size: int
    any_size_layers: tuple[str, ...] = ()  # vectors, of one length whatever the size of the images
    early_layer: str  # where edges and textures end and parts of objects begin: for images unlike ImageNet's
    lower_share: tuple[float, float]  # learning rate of the layers below a head, as a share of the head's: when they
    #   begin with published weights, and from scratch
    course_version: bool = False  # whether the course of 2017 computed it in a way of its own, --as_published
    flattened: dict[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)
    #   dense layer -> (channels, height, width) of the feature map it reads
    caffe_name: str = ""  # what a .caffemodel calls the network; other networks have arrays of the same shapes
    ignored: tuple[str, ...] = ()  # layers of the file whose names start so are left out
    dropout: dict[str, float] = dataclasses.field(default_factory=dict)
    #   layer -> share of its output that becomes 0 in training
    application: str = ""  # module and function in keras.applications
    blocks: tuple[str, ...] = ()  # of such a network: Keras's layers at which its blocks end
    small: SmallWeights | None = None  # weights that need no download, of the same shapes

    @property
    def without_classifier(self) -> str:
        """Keras's name for `file` without the classifier's weights; other networks have no such file."""
        return self.file.replace(".h5", "_notop.h5")

    def checked_size(self, image_size: int | None = None, layer: str = "") -> int:
        """`image_size`, or the card's input size for None. BadInput for one that the layers up to `layer` refuse."""
        size = image_size or self.input_size
        if layer in self.fixed_layers and size != self.input_size:
            raise BadInput(f"--image_size {size}: {self.title} takes {self.input_size} pixels only from "
                           f"{self.fixed_layers[0]} on; leave it out, or put the head on a lower --layer")  # fmt: skip
        if not self.smallest_size <= size <= LARGEST_SIZE:
            raise BadInput(f"--image_size {size}: {self.title} takes {self.smallest_size} to {LARGEST_SIZE} pixels")
        return size


SMALL_ALEXNET = SmallWeights(
    title="small AlexNet, pretrained on 200 of ImageNet's classes",
    file="alexnet-tiny.npz",
    sha256="f81f47fcea159764cde52694ae53276f0a8184633bdfa478fde283b9aa07c565",
    command="python -m transfer.distill, a head on fc7, python -m transfer.shrink: see Pretraining in the README",
    licence="its photos, Tiny-ImageNet, are ImageNet's: for research and teaching only; it imitates BVLC GoogLeNet, "
    "whose weights are for any use",
    top1=27.0,  # of 2,000 photos of Tiny-ImageNet, 10 of each of the 200 classes
)

ALEXNET = Card(
    name="alexnet",
    title="BVLC AlexNet",
    module="alexnet.AlexNet",
    file="bvlc-alexnet.npy",
    urls=(
        "https://d17h27t6h515a5.cloudfront.net/topher/2016/October/580d880c_bvlc-alexnet/bvlc-alexnet.npy",
        "http://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy",
    ),
    other_files=(
        Source(
            "bvlc_alexnet.caffemodel",
            (
                "https://nvidia.box.com/shared/static/5j264j7mky11q8emy4q14w3r8hl5v6zh.caffemodel",
                "http://dl.caffe.berkeleyvision.org/bvlc_alexnet.caffemodel",
            ),
            sha1="9116a64c0fbe4459d18f4bb6b56d647b63920377",
        ),
        Source("bvlc_alexnet.npy"),  # the second address's own name
        Source("bvlc_alexnet.npz"),
        Source("bvlc-alexnet.npz"),
    ),
    licence="released for unrestricted use (Berkeley Vision and Learning Center)",
    input_size=227,  # what 11x11 windows every 4 pixels need for 55 positions without padding
    smallest_size=67,  # leaves one position after pool5: 67 -> 15 -> 7 -> 3 -> 1
    fixed_layers=("fc6", "fc7", "fc8", "prob"),  # fc6 reads 6 x 6 x 256, no more and no less
    framing="squeeze",
    mean_bgr=(104.00698793, 116.66876762, 122.67891434),
    shapes={
        "conv1": (11, 11, 3, 96),
        "conv2": (5, 5, 48, 256),  # 2 groups: each half of the outputs sees 48 of the 96 channels
        "conv3": (3, 3, 256, 384),
        "conv4": (3, 3, 192, 384),  # 2 groups
        "conv5": (3, 3, 192, 256),  # 2 groups
        "fc6": (9216, 4096),
        "fc7": (4096, 4096),
        "fc8": (4096, 1000),
    },
    parameters=60_965_224,
    top1=57.1,
    top5=80.2,
    bottleneck="fc7",
    bottleneck_size=4096,
    early_layer="pool2",
    lower_share=(0.01, 0.1),  # fc6 adds up 9,216 inputs, so small steps make large changes
    course_version=True,
    flattened={"fc6": (256, 6, 6)},
    caffe_name="AlexNet",  # CaffeNet's arrays have the same shapes, but its normalisation follows the pooling
    dropout={"fc6": 0.5, "fc7": 0.5},  # as in the paper, section 4.2
    small=SMALL_ALEXNET,
)

# The nine inception modules: output channels of each branch ("Going deeper with convolutions", table 1).
INCEPTION_MODULES = {
    #      1x1  3x3 reduce  3x3  5x5 reduce  5x5  pool proj
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet_shapes() -> dict[str, tuple[int, ...]]:
    """GoogLeNet's kernel shapes under Caffe's layer names: a stem, nine inception modules, a classifier."""
    shapes = {"conv1/7x7_s2": (7, 7, 3, 64), "conv2/3x3_reduce": (1, 1, 64, 64), "conv2/3x3": (3, 3, 64, 192)}
    channels = 192
    for module, (one, reduce3, three, reduce5, five, pool) in INCEPTION_MODULES.items():
        shapes |= {
            f"inception_{module}/1x1": (1, 1, channels, one),
            f"inception_{module}/3x3_reduce": (1, 1, channels, reduce3),
            f"inception_{module}/3x3": (3, 3, reduce3, three),
            f"inception_{module}/5x5_reduce": (1, 1, channels, reduce5),
            f"inception_{module}/5x5": (5, 5, reduce5, five),
            f"inception_{module}/pool_proj": (1, 1, channels, pool),
        }
        channels = one + three + five + pool  # the four branches are joined along the channels
    return shapes | {"loss3/classifier": (channels, 1000)}


GOOGLENET = Card(
    name="googlenet",
    title="BVLC GoogLeNet (Inception v1)",
    module="googlenet.GoogLeNet",
    file="bvlc-googlenet.npy",
    other_files=(
        Source(
            "bvlc_googlenet.caffemodel",
            (
                "https://nvidia.box.com/shared/static/at8b1105ww1c5h7p30j5ko8qfnxrs0eg.caffemodel",
                "https://www.deepdetect.com/downloads/platform/pretrained/caffe/googlenet/bvlc_googlenet.caffemodel",
                "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
            ),
            sha1="405fc5acd08a3bb12de8ee5e23a96bec22f08204",
        ),
        Source("bvlc_googlenet.npz"),
        Source("bvlc-googlenet.npz"),
        Source("googlenet.npy"),  # as caffe-tensorflow writes it
    ),
    licence="released for unrestricted use (Berkeley Vision and Learning Center)",
    input_size=224,
    smallest_size=32,  # pixels: the side is halved five times
    framing="squeeze",
    mean_bgr=(104.0, 117.0, 123.0),
    shapes=googlenet_shapes(),
    parameters=6_998_552,
    top1=68.7,
    top5=88.9,
    bottleneck="pool5",
    bottleneck_size=1024,
    any_size_layers=("pool5",),
    early_layer="pool3",
    lower_share=(0.3, 0.3),
    # nothing is flattened: the classifier reads 1024 x 1 x 1
    dropout={"pool5": 0.4},  # table 1 of the paper
    caffe_name="GoogleNet",
    ignored=("loss1/", "loss2/"),  # the auxiliary classifiers, for training only
)

# keras.applications fetches these two, into ~/.keras/models, and checks their hashes.
VGG = Card(
    name="vgg",
    title="VGG16",
    module="networks.keras_networks.KerasNetwork",
    application="vgg16.VGG16",
    file="vgg16_weights_tf_dim_ordering_tf_kernels.h5",
    licence="CC BY 4.0 (Visual Geometry Group, University of Oxford)",
    input_size=224,
    smallest_size=32,  # pixels: the side is halved five times
    framing="crop",
    mean_bgr=(103.939, 116.779, 123.68),
    parameters=138_357_544,  # 14,714,688 without the classifier
    top1=71.3,
    top5=90.1,
    bottleneck="avg_pool",  # the last feature map, averaged over its positions
    bottleneck_size=512,
    early_layer="block3_pool",
    lower_share=(0.03, 0.1),  # 13 layers without normalisation: larger steps add up
    dropout={"fc1": 0.5, "fc2": 0.5},  # section 3.1 of the paper
    blocks=("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
)

RESNET = Card(
    name="resnet",
    title="ResNet50",
    module="networks.keras_networks.KerasNetwork",
    application="resnet50.ResNet50",
    file="resnet50_weights_tf_dim_ordering_tf_kernels.h5",
    licence="MIT (Kaiming He; converted by Keras)",
    input_size=224,
    smallest_size=32,  # pixels: the side is halved five times
    framing="crop",
    mean_bgr=(103.939, 116.779, 123.68),
    parameters=25_636_712,  # 23,587,712 without the classifier; the statistics of batch normalisation are counted
    top1=74.9,
    top5=92.1,
    bottleneck="avg_pool",
    bottleneck_size=2048,
    early_layer="conv3_block4_out",
    # Its fixed normalisation holds nothing back: at 0.3 the loss first rises to twice its start.
    lower_share=(0.1, 0.1),
    blocks=(
        "pool1_pool",
        *(f"conv{stage}_block{block + 1}_out" for stage, count in enumerate((3, 4, 6, 3), 2) for block in range(count)),
    ),
)

CARDS = {card.name: card for card in (ALEXNET, GOOGLENET, VGG, RESNET)}
