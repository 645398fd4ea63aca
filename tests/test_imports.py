"""Imports run one way: scripts -> transfer -> alexnet, googlenet -> networks -> weights, data -> common."""

import ast

from conftest import ROOT

FLOORS = {  # room: the rooms it may import
    "common": {"common"},
    "data": {"data", "common"},
    "weights": {"weights", "common"},
    "networks": {"networks", "weights", "common"},
    "alexnet": {"networks", "weights", "common"},
    "googlenet": {"alexnet", "networks", "weights", "common"},
    "caffe_classes": set(),
    "transfer": {
        "transfer",
        "alexnet",
        "googlenet",
        "networks",
        "weights",
        "data",
        "common",
        "caffe_classes",
    },  # fmt: skip
}
FLOORS["images"] = FLOORS["transfer"] | {"images"}  # what makes the README's tables and pictures
SCRIPTS = {
    "imagenet_inference", "traffic_sign_inference", "feature_extraction", "train_feature_extraction",
    "train_feature_extraction_cifar10", "feature_extraction_vgg", "evaluate",
}  # fmt: skip
ROOMS = FLOORS.keys() | SCRIPTS


def imported(path):
    """The rooms that a file imports, wherever in it the import statement stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def test_imports_run_one_way():
    seen = set()
    for path in [*ROOT.glob("*.py"), *(file for room in FLOORS for file in ROOT.glob(f"{room}/**/*.py"))]:
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        allowed = FLOORS.get(room, FLOORS["transfer"] | {"caffe_classes"})
        if room == "train_feature_extraction_cifar10":
            allowed = allowed | {"train_feature_extraction"}  # the same story with other images
        wrong = set(imported(path)) & ROOMS - allowed
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"
        seen.add(room)
    assert seen == ROOMS


def test_the_test_would_notice(tmp_path):
    (tmp_path / "a.py").write_text("def f():\n    from transfer import runs\n    import weights.cards\n")
    assert set(imported(tmp_path / "a.py")) == {"transfer", "weights"}
