"""What a metric of `evaluate` tells of itself: its docstring, and the columns that `add_batch` takes."""

import inspect

import datasets
import evaluate

CELLS = datasets.Sequence(datasets.Value("int64"))


def metric_info(metric: evaluate.Metric, description: str, citation: str, **features: object) -> evaluate.MetricInfo:
    """features: of the columns beside predictions and references, by name."""
    return evaluate.MetricInfo(
        description=description,
        citation=citation,
        inputs_description="\n" + inspect.cleandoc(metric.__doc__),
        features=datasets.Features({"predictions": CELLS, "references": CELLS} | features),
    )
