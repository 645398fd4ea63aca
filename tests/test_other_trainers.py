"""The networks that benchmark.py trains beside ours compute the same, or the comparison would be worth nothing."""

import numpy as np
import pytest
from other_trainers import channels_first, keras_network, torch_network
from test_googlenet import weights as googlenet_weights  # noqa: F401, a fixture

from transfer.classifier import Classifier
from transfer.loading import load_network
from weights import cards, heads


@pytest.mark.parametrize("card, side", [(cards.ALEXNET, 227), (cards.GOOGLENET, 64)], ids=["alexnet", "googlenet"])
def test_same_logits_from_the_same_weights(card, side, request):
    weights = request.getfixturevalue(f"{card.name}_weights")
    head = heads.untrained(card.bottleneck_size, list("abcd"))
    network = load_network(card, weights, image_size=side, trains=True)
    ours = Classifier(head, 0.0, 1.0, network, card.bottleneck, None, network.layer_names[0])
    count = sum(each.shape.num_elements() for each in ours.variables_of_training)
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    expected, x = ours.logits(images).numpy(), network.preprocess(images).numpy()

    model = keras_network(card, weights, head, side)
    assert model.count_params() == count
    found = {"keras": model(x).numpy()}
    module = torch_network(card, weights, head)
    if module:
        assert sum(each.numel() for each in module.parameters()) == count
        found["torch"] = module(channels_first(x)).detach().numpy()
    for name, logits in found.items():
        assert np.abs(logits - expected).max() < 1e-3 * np.abs(expected).max(), name
