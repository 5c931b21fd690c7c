"""Builds the page that solves Sudokus in the browser: python examples/space/build.py --output-dir build/page

The folder holds all that the page needs: the files beside this script, the model as an ONNX graph of one segment, and
onnxruntime-web from npm. Serve it with any web server, or push it as a static Space (hrm-push space).

This needs npm, and `pip install onnxscript` (part of the extra `test`).
"""

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from hrm_hf import CheckpointError, HrmCarry, HrmForPuzzleSolving, pretrained
from hrm_hf.commands.command import Command, refuse_used_folder
from hrm_hf.commands.load import load_model_and_processor
from hrm_hf.hrm.halting import wants_to_halt

HERE = Path(__file__).parent
ONNXRUNTIME_WEB = "1.30.0"
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
PAGE_FILES = ("*.html", "*.css", "*.js", "README.md")


class Segment(torch.nn.Module):
    """One segment with its carry, tensors in and tensors out."""

    def __init__(self, model: HrmForPuzzleSolving):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, z_H: torch.Tensor, z_L: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, S) int64 and twice (B, T, D) float32 -> z_H, z_L, logits (B, S, V), q_halt (B,), halts (B,) bool."""
        out = self.model(input_ids, carry=HrmCarry(z_H, z_L))
        halts = wants_to_halt(out.q_halt_logits, out.q_continue_logits, self.model.config.halting)
        return *out.carry, out.logits, out.q_halt_logits, halts


INPUTS = ("input_ids", "z_H", "z_L")
OUTPUTS = ("next_z_H", "next_z_L", "logits", "q_halt", "halts")


def export(model: HrmForPuzzleSolving, path: Path) -> None:
    """Writes a model as the ONNX graph of one `Segment` of one puzzle (B = 1); it computes in float32."""
    import onnx  # comes with onnxscript

    model.config.compute_dtype = "float32"
    example = (torch.ones(1, model.config.seq_len, dtype=torch.long), *model.initial_carry(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's exporter, about itself
        program = torch.export.export(Segment(model), example)
        exported = torch.onnx.export(program, input_names=INPUTS, output_names=OUTPUTS, dynamo=True, verbose=False)
    graph = exported.model_proto
    for node in graph.graph.node:
        node.ClearField("metadata_props")  # which line of Python it is from: a third of the file
    store_in_bfloat16(graph.graph)
    onnx.save(graph, path)


def store_in_bfloat16(graph: Any) -> None:
    """Stores the weights of an `onnx.GraphProto` that bfloat16 holds exactly as bfloat16, cast where they are read."""
    from onnx import TensorProto, helper, numpy_helper

    for weight in list(graph.initializer):
        values = torch.from_numpy(numpy_helper.to_array(weight).copy())
        stored = values.bfloat16()
        if values.dtype != torch.float32 or values.numel() < 1000 or not torch.equal(stored.float(), values):
            continue
        name, content = f"{weight.name}_bfloat16", stored.view(torch.int16).numpy().tobytes()
        graph.initializer.remove(weight)
        graph.initializer.append(helper.make_tensor(name, TensorProto.BFLOAT16, weight.dims, content, raw=True))
        graph.node.insert(0, helper.make_node("Cast", [name], [weight.name], to=TensorProto.FLOAT))


def load_sudoku_model(checkpoint: str) -> HrmForPuzzleSolving:
    """A model of 9x9 Sudokus, in float32; CheckpointError for one of other puzzles."""
    model, processor = load_model_and_processor(checkpoint)
    if (processor.task, processor.grid_shape, processor.box_shape) != ("sudoku", (9, 9), (3, 3)):
        rows, columns = processor.grid_shape
        raise CheckpointError(f"{checkpoint} solves {processor.task} of {rows}x{columns}; the page is for 9x9 Sudokus")
    return model.float().eval()


def settings(model: HrmForPuzzleSolving) -> dict:
    """What the page has to know of the model: sizes, limits, and the vectors that a carry starts from."""
    config = model.config
    names = ("hidden_size", "num_positions", "halt_max_steps", "token_loss")
    return {name: getattr(config, name) for name in names} | {
        "num_weights": model.num_parameters(),
        "z_H": model.model.z_H_init.float().tolist(),
        "z_L": model.model.z_L_init.float().tolist(),
    }


def add_onnxruntime(folder: Path) -> None:
    """Fetches the files of onnxruntime-web that the page needs from npm, or from npm's cache."""
    name, npm = f"onnxruntime-web@{ONNXRUNTIME_WEB}", shutil.which("npm")
    if npm is None:
        raise ImportError("npm is not installed: install Node.js (https://nodejs.org), which brings it")
    with TemporaryDirectory() as fetched:
        how = ["--prefer-offline", "--fetch-retries=0", "--loglevel=error", "--pack-destination", fetched]
        done = subprocess.run([npm, "pack", name, *how], capture_output=True, text=True, cwd=fetched)
        if done.returncode != 0:
            first_line, *_ = [*done.stderr.splitlines(), ""]
            raise ImportError(f"npm could not fetch {name}: {first_line}; is its registry within reach?")
        (archive,) = Path(fetched).glob("*.tgz")
        folder.mkdir()
        with tarfile.open(archive) as packed:
            for file in RUNTIME_FILES:
                (folder / file).write_bytes(packed.extractfile(f"package/dist/{file}").read())


def build(output_dir: Path, checkpoint: str) -> None:
    """Puts the page together in `output_dir`, which must be new or empty; writes nothing where anything fails."""
    refuse_used_folder(output_dir)
    if find_spec("onnxscript") is None:
        raise ImportError("the export needs onnxscript: pip install onnxscript")
    model = load_sudoku_model(checkpoint)
    with TemporaryDirectory() as temporary:
        made = Path(temporary) / "page"
        made.mkdir()
        add_onnxruntime(made / "onnxruntime-web")
        export(model, made / "segment.onnx")
        (made / "settings.json").write_text(json.dumps(settings(model)) + "\n")
        for pattern in PAGE_FILES:
            for path in HERE.glob(pattern):
                shutil.copy(path, made)
        shutil.copytree(made, output_dir, dirs_exist_ok=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output-dir", required=True, type=Path, help="new or empty folder for the page")
    of_package = pretrained("sudoku-9x9")
    parser.add_argument("--checkpoint", default=of_package, help="a model of 9x9 Sudokus (that of the package)")


def run(args: argparse.Namespace) -> None:
    build(args.output_dir, args.checkpoint)
    size = sum(path.stat().st_size for path in args.output_dir.rglob("*") if path.is_file())
    print(f"{args.output_dir} holds the page, {size:,} bytes: python -m http.server --directory {args.output_dir}")


main = Command(__doc__, add_arguments, run).main

if __name__ == "__main__":
    sys.exit(main())
