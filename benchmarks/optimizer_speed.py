"""AdamATan2 on 27 M parameters: the trainer's beside the plain loop over the tensors.

    python benchmarks/optimizer_speed.py

Both update copies of the same weights with the same gradients, and the results are compared. Beside them stands the
limit: an update reads weight, gradient and both moments and writes all but the gradient, 28 bytes a parameter, at the
rate at which this machine copies memory.
"""

import argparse

import torch
from plain_twin import adam_atan2
from side_by_side import Target, benchmark_parser, compare, finish, in_words, rounded, seconds_of, start
from subjects import add_compile_option, compiles, config_of, device

from hrm_hf.training import seeded_model
from hrm_hf.training.adam_atan2 import make_adam_atan2

RATE, BETAS, DECAY = 1e-4, (0.9, 0.95), 1.0
BYTES_PER_PARAMETER = 7 * 4


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

    compared = compare(plain, optimizer.step, args.pairs, args.seconds)
    difference = max((parameter - copy).abs().max().item() for parameter, copy in zip(parameters, copies, strict=True))
    count = sum(parameter.numel() for parameter in parameters)
    limit = count * BYTES_PER_PARAMETER / copy_rate(count)
    print(f"{count:,} parameters in {len(parameters)} tensors, {updates} updates: {compared}")
    print(f"largest difference of a weight {difference:.1e}; memory alone would take {in_words(limit)}")
    record = {
        "parameters": count,
        "optimizer": type(optimizer).__name__,
        "compile": compiled,
        **compared.record(),
        "largest_difference": rounded(difference),
        "memory_limit_seconds": rounded(limit),
    }
    note = f"memory alone allows {compared.plain.median / limit:.1f}x"
    finish("optimizer_speed", args, record, [Target("optimiser step, 27 M", 4.0, compared.ratio, note=note)])


def copy_rate(numbers: int) -> float:
    """Bytes read and written a second by copying so many float32 numbers, the best of five."""
    source = torch.ones(numbers, device=device())
    target = torch.zeros_like(source)
    return 2 * 4 * numbers / min(seconds_of(lambda: target.copy_(source)) for _ in range(5))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__, pairs=30, seconds=10)
    add_compile_option(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
