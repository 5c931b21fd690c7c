"""HrmConfig: the architecture of a Hierarchical Reasoning Model and its limits of adaptive computation.

The Tiny Recursive Model (arXiv 2510.04871) is the same recursion with other values of some fields.

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
    "gradient_span": ("last_updates", "last_cycle", "segment"),
    "mixer": ("attention", "mlp"),
    "pos_encodings": ("rope", "learned", "none"),
    "token_loss": ("stablemax", "softmax"),
    "halting": ("q_learning", "halt_only"),
    "compute_dtype": COMPUTE_DTYPES,
}
# Fields that must be greater than 0, and their limits. What is built or run in a loop has one, far above any trained
# model: a damaged config.json would keep the machine busy for hours. Other sizes must fit the weights.
SIZES = dict.fromkeys(("vocab_size", "seq_len", "hidden_size", "num_attention_heads", "expansion"), math.inf)
SIZES |= dict.fromkeys(("rope_theta", "rms_norm_eps", "num_puzzle_identifiers"), math.inf)
SIZES |= {"H_layers": 256, "L_layers": 256, "H_cycles": 64, "L_cycles": 64, "halt_max_steps": 1024}
SIZES |= {"num_segments": 1024, "halting_loss_weight": math.inf}
MOST_PREFIX_POSITIONS = 1024


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
        H_layers (`int`, defaults to 4): blocks of the high level; not read with `shared_levels`.
        L_layers (`int`, defaults to 4): blocks of the low level.
        H_cycles (`int`, defaults to 2): high-level updates in a segment.
        L_cycles (`int`, defaults to 2): low-level updates before each high-level update.
        shared_levels (`bool`, defaults to `False`): the L level is the H level too (the Tiny Recursive Model).
        gradient_span (`str`, defaults to `"last_updates"`): what carries gradients, at a cost: the last update of each
            level, all of the last high-level cycle (`"last_cycle"`, as in TRM), or all updates (`"segment"`).
        mixer (`str`, defaults to `"attention"`): what mixes positions in a block, `"attention"`, or `"mlp"`, a SwiGLU
            over the positions, the same for every channel; it knows them by itself and takes no `"rope"`.
        pos_encodings (`str`, defaults to `"rope"`): `"rope"`, `"learned"` or `"none"` for no positions.
        rope_theta (`float`, defaults to 10000.0): base of the rotary frequencies.
        rms_norm_eps (`float`, defaults to 1e-5): added to the mean square in every norm.
        num_puzzle_identifiers (`int`, defaults to 1): rows of the puzzle table; row 0 is the blank identifier.
        puzzle_emb_ndim (`int`, defaults to 512): width E of the puzzle table, 0 for none. The row is padded with zeros
            to `num_prefix * hidden_size` and stands as `num_prefix` vectors before the cells.
        num_prefix_positions (`int`, *optional*): positions P before the cells; the rest holds zeros. None = fewest.
        halt_max_steps (`int`, defaults to 16): segments after which a puzzle is always left.
        token_loss (`str`, defaults to `"stablemax"`): `"stablemax"` (float64) or `"softmax"` (float32) cross entropy.
        label_smoothing (`float`, defaults to 0.0): share of the softmax's target that is spread over all codes.
        halting_loss_weight (`float`, defaults to 0.5): weight of the halting losses beside the token loss.
        halting (`str`, defaults to `"q_learning"`): when a puzzle is left: when q_halt > q_continue, which learns the
            value of one more segment; with `"halt_only"` when q_halt > 0, as in the Tiny Recursive Model.
        num_segments (`int`, defaults to 1): segments of one call of the model, whose losses are averaged, for loops
            that carry no states, such as `transformers.Trainer`. Neither solving nor HrmTrainer reads it.
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
    shared_levels: bool = False
    gradient_span: str = "last_updates"
    mixer: str = "attention"
    pos_encodings: str = "rope"
    rope_theta: float | int = 10000.0
    rms_norm_eps: float = 1e-5
    num_puzzle_identifiers: int = 1
    puzzle_emb_ndim: int = 512
    num_prefix_positions: int | None = None
    halt_max_steps: int = 16
    token_loss: str = "stablemax"
    label_smoothing: float | int = 0.0
    halting_loss_weight: float | int = 0.5
    halting: str = "q_learning"
    num_segments: int = 1
    compute_dtype: str = "float32"

    def validate_architecture(self):
        """Raises ValueError for sizes that are not positive, too large, or do not fit each other."""
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} is {shown(value)}; allowed are {', '.join(map(repr, allowed))}")
        for name, largest in SIZES.items():
            value = getattr(self, name)
            if not 0 < value < math.inf or value > largest:
                most = f" and at most {largest}" if largest < math.inf else ""
                raise ValueError(f"{name} is {shown(value)}; it must be greater than 0{most}")
        if not 0 <= (share := self.label_smoothing) < 1 or share and self.token_loss != "softmax":
            raise ValueError(f"label_smoothing is {shown(share)}; allowed is 0, with softmax also up to below 1")
        if self.puzzle_emb_ndim < 0:
            raise ValueError(f"puzzle_emb_ndim is {shown(self.puzzle_emb_ndim)}; it must be 0 (no table) or greater")
        filled, prefix = -(-self.puzzle_emb_ndim // self.hidden_size), self.num_prefix_positions
        if prefix is not None and not filled <= prefix <= (MOST_PREFIX_POSITIONS if filled else 0):
            vector = f"puzzle_emb_ndim {self.puzzle_emb_ndim} and hidden_size {self.hidden_size}"
            allowed = f"None and {filled} to {MOST_PREFIX_POSITIONS}" if filled else "None and 0"
            raise ValueError(f"num_prefix_positions is {shown(prefix)}; with {vector} allowed are {allowed}")
        if self.mixer == "mlp":  # heads mean nothing there
            if self.pos_encodings == "rope":
                raise ValueError("pos_encodings is 'rope'; with mixer 'mlp' allowed are 'learned', 'none'")
            return
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
        """Inner width of the SwiGLU over D: round(expansion * D * 2 / 3), rounded up to a multiple of 256."""
        return self._inner_width(self.hidden_size)

    @property
    def mixer_size(self) -> int:
        """Inner width of the mixer "mlp": the same of T."""
        return self._inner_width(self.num_positions)

    def _inner_width(self, width: int) -> int:
        return math.ceil(round(self.expansion * width * 2 / 3) / 256) * 256

    @property
    def num_prefix(self) -> int:
        """Prefix positions P."""
        return -(-self.puzzle_emb_ndim // self.hidden_size) if (own := self.num_prefix_positions) is None else own

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
