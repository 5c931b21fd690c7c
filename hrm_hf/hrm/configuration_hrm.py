"""HrmConfig: the architecture of a Hierarchical Reasoning Model and its limits of adaptive computation.

Nothing of training (rates, exploration, batch) stands here: those live in `hrm_hf.training.arguments`.
"""

import math
import os
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PretrainedConfig
from transformers.dynamic_module_utils import custom_object_save

from .shown_value import shown

COMPUTE_DTYPES = ("float32", "bfloat16")  # of the activations
CHOICES = {
    "pos_encodings": ("rope", "learned"),
    "token_loss": ("stablemax", "softmax"),
    "halting": ("q_learning", "halt_only"),
    "compute_dtype": COMPUTE_DTYPES,
}
# What is built or run in a loop has a limit, far above any trained model: a damaged config.json would keep the machine
# busy for hours. Other sizes must fit the weights.
LARGEST = {
    "H_layers": 256,
    "L_layers": 256,
    "H_cycles": 64,
    "L_cycles": 64,
    "halt_max_steps": 1024,
    "num_segments": 1024,
}


@strict
class HrmConfig(PretrainedConfig):
    r"""
    Configuration of [`HrmModel`] and [`HrmForPuzzleSolving`]. The defaults are the published Sudoku model
    (arXiv 2506.21734): 27,275,266 trained parameters.

    Args:
        vocab_size (`int`, defaults to 11): number of cell codes V, PAD included.
        seq_len (`int`, defaults to 81): number of cells S of a puzzle.
        hidden_size (`int`, defaults to 512): width D of the states.
        num_attention_heads (`int`, defaults to 8): heads N of every attention; must divide `hidden_size`.
        expansion (`float`, defaults to 4.0): sets the SwiGLU width, see `intermediate_size`.
        H_layers (`int`, defaults to 4): blocks of the high level.
        L_layers (`int`, defaults to 4): blocks of the low level.
        H_cycles (`int`, defaults to 2): high-level updates in a segment.
        L_cycles (`int`, defaults to 2): low-level updates before each high-level update.
        pos_encodings (`str`, defaults to `"rope"`): `"rope"` or `"learned"` positions.
        rope_theta (`float`, defaults to 10000.0): base of the rotary frequencies.
        rms_norm_eps (`float`, defaults to 1e-5): added to the mean square in every norm.
        num_puzzle_identifiers (`int`, defaults to 1): rows of the puzzle table; row 0 is the blank identifier.
        puzzle_emb_ndim (`int`, defaults to 512): width E of the puzzle table, 0 for none. The row is padded with zeros
            to `num_prefix * hidden_size` and stands as `num_prefix` vectors before the cells.
        halt_max_steps (`int`, defaults to 16): segments after which a puzzle is always left.
        token_loss (`str`, defaults to `"stablemax"`): `"stablemax"` (float64) or `"softmax"` (float32) cross entropy.
        halting (`str`, defaults to `"q_learning"`): when a puzzle is left. `"q_learning"`: when q_halt > q_continue,
            and training teaches q_continue the value of one more segment. `"halt_only"`: when q_halt > 0, as in the
            Tiny Recursive Model (arXiv 2510.04871); q_continue is not trained, which saves a pass.
        num_segments (`int`, defaults to 1): segments of one call of the model, whose losses are averaged: for loops
            that carry no states from step to step, such as `transformers.Trainer`. Neither solving nor HrmTrainer
            reads it.
        compute_dtype (`str`, defaults to `"float32"`): dtype of the activations, `"float32"` or `"bfloat16"`,
            whatever the dtype of the weights; norms, rotary tables and q values stay float32.

    Raises:
        `StrictDataclassError`: a field of the wrong type, or sizes that do not fit each other.
    """

    model_type = "hrm"
    keys_to_ignore_at_inference = ["carry"]

    vocab_size: int = 11
    seq_len: int = 81
    hidden_size: int = 512
    num_attention_heads: int = 8
    expansion: float | int = 4.0
    H_layers: int = 4
    L_layers: int = 4
    H_cycles: int = 2
    L_cycles: int = 2
    pos_encodings: str = "rope"
    rope_theta: float | int = 10000.0
    rms_norm_eps: float = 1e-5
    num_puzzle_identifiers: int = 1
    puzzle_emb_ndim: int = 512
    halt_max_steps: int = 16
    token_loss: str = "stablemax"
    halting: str = "q_learning"
    num_segments: int = 1
    compute_dtype: str = "float32"

    def validate_architecture(self):
        """Raises ValueError for sizes that are not positive, too large, or do not fit each other."""
        for name in HrmConfig.__annotations__:
            value = getattr(self, name)
            if name in CHOICES:
                if value not in CHOICES[name]:
                    allowed = ", ".join(map(repr, CHOICES[name]))
                    raise ValueError(f"{name} is {shown(value)}; allowed are {allowed}")
            elif name == "puzzle_emb_ndim":
                if value < 0:
                    raise ValueError(f"puzzle_emb_ndim is {shown(value)}; it must be 0 (no puzzle table) or greater")
            elif not 0 < value < math.inf or value > LARGEST.get(name, value):
                most = f" and at most {LARGEST[name]}" if name in LARGEST else ""
                raise ValueError(f"{name} is {shown(value)}; it must be greater than 0{most}")
        width, heads = f"hidden_size {self.hidden_size}", f"num_attention_heads {self.num_attention_heads}"
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"{width} is not divisible by {heads}")
        if self.pos_encodings == "rope" and self.head_dim % 2:
            raise ValueError(f"rope needs an even head width; {width} over {heads} gives {self.head_dim}")

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Saves config.json, and all code beside it where it names code: see `save_code`."""
        if hasattr(self, "auto_map"):
            save_code(save_directory)
        super().save_pretrained(save_directory, push_to_hub, **kwargs)

    @property
    def head_dim(self) -> int:
        """Width K of an attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def intermediate_size(self) -> int:
        """Inner width of the SwiGLU: round(expansion * D * 2 / 3), rounded up to a multiple of 256."""
        return math.ceil(round(self.expansion * self.hidden_size * 2 / 3) / 256) * 256

    @property
    def num_prefix(self) -> int:
        """Prefix positions P that hold the puzzle vector."""
        return math.ceil(self.puzzle_emb_ndim / self.hidden_size)

    @property
    def num_positions(self) -> int:
        """All positions T = P + S."""
        return self.num_prefix + self.seq_len


def save_code(folder: str | os.PathLike) -> None:
    """Copies the code that travels with a checkpoint into a folder, which is made if need be."""
    # transformers fetches and copies a file with what it imports: by these two lines each part brings all others,
    # and a model saved again brings the pipeline, which config.json names.
    from .modeling_hrm import HrmForPuzzleSolving
    from .pipeline_puzzle import PuzzleSolvingPipeline

    os.makedirs(folder, exist_ok=True)
    for part in (HrmForPuzzleSolving, PuzzleSolvingPipeline):
        custom_object_save(part, folder)
