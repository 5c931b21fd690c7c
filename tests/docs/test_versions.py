"""The versions that the package works with: bounds, the oldest that are tested, and private names of libraries."""

import ast
import configparser
import importlib.metadata
import re

import datasets
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from paths import ROOT
from torch.nn.parallel import DistributedDataParallel
from transformers import Pipeline, PreTrainedConfig
from transformers.integrations import PeftAdapterMixin

SET_BY_PIPELINE = Pipeline.__init__.__code__.co_names
# What hrm_hf uses of a library that is not public, the library, and names among which it is there.
PRIVATE = {
    "_BaseExamplesIterable": ("datasets", dir(datasets.iterable_dataset)),
    "_attn_implementation": ("transformers", dir(PreTrainedConfig)),
    "_batch_size": ("transformers", SET_BY_PIPELINE),
    **{
        f"_foreach_{name}": ("torch", dir(torch))
        for name in ("norm", "sqrt", "add_", "addcmul_", "div_", "lerp_", "mul_")
    },
    "_forward_params": ("transformers", SET_BY_PIPELINE),
    "_hf_hook": ("accelerate", dir(add_hook_to_module(torch.nn.Identity(), ModelHook()))),
    "_hf_peft_config_loaded": ("transformers", dir(PeftAdapterMixin)),
    "_indices": ("torch", dir(torch.Tensor)),
    "_postprocess_params": ("transformers", SET_BY_PIPELINE),
    "_preprocess_params": ("transformers", SET_BY_PIPELINE),
    "_replicate_for_data_parallel": ("torch", dir(torch.nn.Module)),
    "_set_params_and_buffers_to_ignore_for_model": ("torch", dir(DistributedDataParallel)),
    "_values": ("torch", dir(torch.Tensor)),
}
DOCUMENTED = {"_asdict", "_exit", "_fields", "_make", "_replace"}  # named tuples and os
NOT_TESTED_WITH = {"adam-atan2", "trackio", "wandb", "pre-commit", "hrm-hf"}  # the bounds of these are not tested


def names_used() -> set[str]:
    """Private names that hrm_hf reads of objects, and that none of its classes defines."""
    used, own = set(), set()
    for path in (ROOT / "hrm_hf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.ClassDef(body=body):
                    own |= {part.name for part in body if isinstance(part, ast.FunctionDef)}
                case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                    own.add(name)
                case ast.Call(func=ast.Attribute(attr="__setattr__"), args=[_, ast.Constant(value=name), _]):
                    own.add(name)
                case ast.Attribute(attr=name):
                    used.add(name)
                case ast.ImportFrom(level=0, names=names):
                    used |= {alias.name for alias in names}
                case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value=name), *_]):
                    used.add(name)
    return {name for name in used - own - DOCUMENTED if re.match("_(?!_)", str(name))}


def test_private_names_of_libraries_are_known():
    assert names_used() == PRIVATE.keys()


@pytest.mark.parametrize("name", PRIVATE)
def test_this_version_has_the_private_name(name):
    library, names = PRIVATE[name]
    assert name in names, f"{library} {importlib.metadata.version(library)} has no {name} any more"


def pins(file: str) -> dict[str, str]:
    lines = [Requirement(line) for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    return {line.name: str(line.specifier).removeprefix("==") for line in lines}


def bounds() -> dict[str, str]:
    """The lower bounds of all extras but the tools of the documentation."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    groups = [settings["options"]["install_requires"]]
    groups += [text for extra, text in settings["options.extras_require"].items() if extra != "docs"]
    found = [Requirement(line.partition("#")[0]) for text in groups for line in text.splitlines() if line.strip()]
    return {line.name: str(line.specifier).removeprefix(">=") for line in found if line.name not in NOT_TESTED_WITH}


def test_the_oldest_versions_tested_are_the_bounds():
    oldest, least = pins("constraints-oldest.txt"), bounds()
    assert oldest.keys() == least.keys()
    assert [name for name, version in oldest.items() if version not in SpecifierSet(f"=={least[name]}.*")] == []


def test_the_usual_versions_are_within_the_bounds():
    usual = pins("constraints.txt")
    assert [name for name, least in bounds().items() if Version(usual[name]) < Version(least)] == []
