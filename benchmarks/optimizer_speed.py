"""AdamATan2 on 27 M parameters: the trainer's beside the plain loop over the tensors.

    python benchmarks/optimizer_speed.py

Both update copies of the same weights with the same gradients, and the results are compared. An update reads weight,
gradient and both moments and writes all but the gradient, 28 bytes a parameter. So a bare pass takes turns with them:
a compiled addition that reads and writes as much and calculates next to nothing (left out without compiling).
"""

import argparse
from collections.abc import Callable

import torch
from plain_twin import adam_atan2
from side_by_side import Comparison, Target, benchmark_parser, finish, in_words, one_line, rounded, start, take_turns
from subjects import add_compile_option, compiles, config_of, device

from hrm_hf.training import seeded_model
from hrm_hf.training.adam_atan2 import make_adam_atan2

RATE, BETAS, DECAY = 1e-4, (0.9, 0.95), 1.0


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    start(args)
    model = seeded_model(config_of("tiny" if args.quick else "27m"), seed=0).to(device())
    parameters = [parameter for name, parameter in model.named_parameters() if "puzzle" not in name]
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.device)
    copies = [parameter.detach().clone() for parameter in parameters]
    for copy, parameter in zip(copies, parameters, strict=True):
        copy.grad = parameter.grad.clone()
    moments = [(torch.zeros_like(copy), torch.zeros_like(copy)) for copy in copies]
    compiled = compiles(args)
    optimizer = make_adam_atan2(parameters, lr=RATE, betas=BETAS, weight_decay=DECAY, compiled=compiled)
    updates = 0

    def plain() -> None:
        nonlocal updates
        updates += 1
        adam_atan2(copies, moments, updates, RATE, BETAS, DECAY)

    count = sum(parameter.numel() for parameter in parameters)
    ways = {"plain": plain, "fast": optimizer.step} | ({"bare": bare_pass(count)} if compiled else {})
    taken = take_turns(ways, args.pairs, args.seconds)
    compared = Comparison(taken["plain"], taken["fast"])
    difference = max((parameter - copy).abs().max().item() for parameter, copy in zip(parameters, copies, strict=True))
    record = {
        "parameters": count,
        "optimizer": type(optimizer).__name__,
        "compile": compiled,
        **compared.record(),
        "largest_difference": rounded(difference),
    }
    note = ""
    if "bare" in taken:
        record["bare_pass_seconds"] = rounded(taken["bare"].median)
        note = f"{in_words(compared.fast.median)}; a bare pass over the same memory {in_words(taken['bare'].median)}"
    print(one_line(record))
    finish("optimizer_speed", args, record, [Target("optimiser step, 27 M", 4.0, compared.ratio, note=note)])


def bare_pass(numbers: int) -> Callable[[], object]:
    """In place over four tensors of so many float32 numbers: reads all, writes three."""
    gradient, weight, mean, square = (torch.zeros(numbers, device=device()) for _ in range(4))

    @torch.compile
    def add() -> None:
        for tensor in (weight, mean, square):
            tensor.add_(gradient)

    return add


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__, pairs=30, seconds=10)
    add_compile_option(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
