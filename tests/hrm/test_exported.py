"""torch.export, ONNX and torch.compile of the model: one segment, its carry as input and output."""

import numpy as np
import pytest
import torch
from tiny_models import OPTIONS, perturbed, some_inputs, tiny_model

from hrm_hf.hrm.modeling_hrm import HrmCarry

NAMES = ("input_ids", "puzzle_identifiers", "z_H", "z_L")


class Segment(torch.nn.Module):
    """Tensors in, tensors out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, puzzle_identifiers, z_H, z_L):
        out = self.model(input_ids, puzzle_identifiers, carry=HrmCarry(z_H, z_L))
        return out.logits, out.q_halt_logits, out.q_continue_logits, *out.carry


def segment_and_arguments(**options):
    model = perturbed(tiny_model(num_puzzle_identifiers=3, **options)).eval()
    inputs, identifiers = some_inputs(), torch.tensor([0, 1, 2, 1, 0])
    with torch.no_grad():
        return Segment(model), (inputs, identifiers, *model(inputs, identifiers).carry)


def exported(segment, arguments) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=4096)
    return torch.export.export(segment, arguments, dynamic_shapes=({0: batch},) * 4)


@pytest.mark.parametrize("options", [{"pos_encodings": "learned"}, *OPTIONS.values()])
def test_export_with_any_batch_size(options):
    segment, arguments = segment_and_arguments(**options)
    program = exported(segment, arguments)
    for rows in (1, 3, 5):
        given = [each[:rows] for each in arguments]
        for got, want in zip(program.module()(*given), segment(*given), strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PyTorch's exporter
def test_onnx_with_any_batch_size(tmp_path, options):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    segment, arguments = segment_and_arguments(**options)
    outputs = ["logits", "q_halt_logits", "q_continue_logits", "next_z_H", "next_z_L"]
    program = torch.onnx.export(
        exported(segment, arguments), input_names=NAMES, output_names=outputs, dynamo=True, verbose=False
    )
    program.save(tmp_path / "segment.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "segment.onnx")
    assert [each.name for each in session.get_inputs()] == list(NAMES)
    assert [each.name for each in session.get_outputs()] == outputs
    for rows in (1, 3, 5):
        given = [each[:rows] for each in arguments]
        found = session.run(None, {name: each.numpy() for name, each in zip(NAMES, given, strict=True)})
        with torch.no_grad():
            for got, want in zip(found, segment(*given), strict=True):
                np.testing.assert_allclose(got, want, atol=5e-5)


def test_compile_of_the_whole_model():
    """As one graph, by the backend that compiles no code: that part is in test_fast_training.py."""
    model = perturbed(tiny_model(compute_dtype="bfloat16"))
    whole = torch.compile(model, fullgraph=True, backend="aot_eager")
    got, want = (each(some_inputs(), labels=some_inputs(seed=3)) for each in (whole, model))
    torch.testing.assert_close(got.logits, want.logits, rtol=0, atol=0.2)
    gradients = []
    for out in (got, want):
        model.zero_grad()
        out.loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert (gradients[0] - gradients[1]).norm() < 0.1 * gradients[1].norm()
