"""data/datasets.py: the data sets that are known by name."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from data import datasets


@pytest.mark.parametrize("name", datasets.TABLE)
def test_the_table(name):
    source = datasets.named(name)
    assert callable(source.load) and callable(source.load_test) and source.split in ("track", "random")
    drawn = source.drawn(per_class=2, seed=1)
    assert drawn.class_names == source.drawn_names()
    assert len(drawn.class_names) == len(source.class_names()) == len(drawn.labels) // 2
    np.testing.assert_array_equal(drawn.images, source.drawn(per_class=2, seed=1).images)
    assert datasets.of_classes(source.class_names()) is source
    assert datasets.of_classes(source.class_names()[::-1]) is None


def test_drawn_stand_ins_are_known_by_their_names_alone(monkeypatch):
    """Nothing is drawn for it: 43 signs take half a second."""
    for name, module in datasets.TABLE.items():
        source = datasets.named(name)
        names = source.drawn_names()
        monkeypatch.setattr(f"{module}.SOURCE", source._replace(drawn=lambda *_: pytest.fail("drawn")))
        assert datasets.drawn_of_classes(names).drawn_names() == names
    assert datasets.drawn_of_classes(["a"]) is None


def test_the_table_imports_no_reader():
    code = "import sys; from data.datasets import TABLE; print([one for one in TABLE.values() if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_how_the_known_data_sets_are_split_and_mirrored():
    signs, cifar10 = datasets.named("traffic"), datasets.named("cifar10")
    assert (signs.split, cifar10.split) == ("track", "random")
    assert cifar10.mirror == tuple(range(10)) and signs.mirror[38] == 39 and signs.mirror[14] == datasets.NO_MIRROR
