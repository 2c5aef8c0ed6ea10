"""`tandem model train | evaluate`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from serving import ServingError

if TYPE_CHECKING:
    from serving import train as training
    from serving.data import Behaviour, Split

app = typer.Typer(help="The model: train, evaluate.", no_args_is_help=True)

DataOption = Annotated[str, typer.Option("--data", help="a folder in MovieLens format, or `generated`")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document instead of tables")]
OutOption = Annotated[Path, typer.Option("--out", help="folder of packages [default: $TANDEM_HOME/models]")]


def _models() -> Path:
    return Path(os.environ.get("TANDEM_HOME", ".tandem")) / "models"


def _fail(error: Exception) -> typer.Exit:
    Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


@app.command()
def train(
    data: DataOption = "generated",
    out: OutOption = Path(),
    seconds: Annotated[float, typer.Option(min=0.1, help="the time that training may take")] = 60.0,
    seed: Annotated[int, typer.Option(help="seed of the generated catalogue and of training")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train on behaviour, compare with the baselines, export, prove parity and build a package."""
    from serving import train as training

    try:
        plan = training.Plan(seconds=seconds, seed=seed)
        with training.threads(plan.threads):
            report = _train(data, _models() if out == Path() else out, plan)
    except (ServingError, ValueError) as error:
        raise _fail(error) from error
    if as_json:
        print(json.dumps(report))
        return
    _print_metrics(f"{report['data']}: next choice of {report['users']} users, unsampled", report["metrics"])
    print(
        f"trained {report['epochs']} epochs in {report['seconds']:.1f} s (stopped by {report['stopped']}), "
        f"parity {report['parity']:.1e}, one answer {report['latency_ms']['p50']:.2f} ms"
    )
    print(f"digest  {report['digest']}")
    print(f"package {report['package']}")


def _train(source: str, out: Path, plan: training.Plan) -> dict[str, Any]:
    from serving import baselines, catalogue, data, evaluate, export, repository
    from serving import train as training

    behaviour = data.load(source, seed=plan.seed)
    split = data.Split.of(behaviour)
    trained = _fit_with_progress(behaviour, split, plan)
    onnx = export.to_onnx(trained.model)
    exported = export.OnnxModel(onnx)
    parity = export.check_parity(trained.model, exported, split.test)
    histories = evaluate.padded(split.test)
    popularity = baselines.Popularity(count=baselines.counts(split.train, len(behaviour.items)))
    qualities = {
        "popularity": evaluate.evaluate(popularity, split.test),
        "co-occurrence": evaluate.evaluate(trained.counted, split.test),
        "transformer alone": evaluate.evaluate(training.TorchScorer(trained.model.transformer), split.test),
        "model": evaluate.evaluate(training.TorchScorer(trained.model.scores), split.test),
        "model as served (ONNX)": evaluate.evaluate_answers(exported.answers(histories)[0], split.test),
    }
    metrics = {name: quality.to_json() for name, quality in qualities.items()}
    package = repository.build(
        out,
        onnx=onnx,
        catalogue=catalogue.to_bytes(behaviour.items),
        golden=export.golden(exported, split.test),
        catalogue_size=len(behaviour.items),
        metrics=metrics,
        training={
            "data": behaviour.name,
            "events": behaviour.events,
            "users": len(split.test),
            "seed": plan.seed,
            "epochs": trained.best.epoch,
            "prior_weight": trained.best.prior_weight,
        },
    )
    return {
        "data": behaviour.name,
        "users": len(split.test),
        "metrics": metrics,
        "epochs": trained.epochs,
        "seconds": round(trained.seconds, 2),
        "stopped": trained.stopped,
        "parity": parity.largest_difference,
        "latency_ms": {name: round(value, 3) for name, value in exported.milliseconds(histories[:200]).items()},
        "digest": f"sha256:{package.name}",
        "package": str(package),
    }


def _fit_with_progress(behaviour: Behaviour, split: Split, plan: training.Plan) -> training.Trained:
    from serving import train as training

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[state]}"))
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"training on {behaviour.name}", total=plan.seconds, state="counting")

        def show(seen: training.Progress) -> None:
            state = f"epoch {seen.epoch}, loss {seen.loss:.2f}, validation NDCG@10 {seen.validation.ndcg:.4f}"
            progress.update(task, completed=min(time.monotonic() - started, plan.seconds), state=state)

        return training.fit(split, behaviour.items, plan, show)


@app.command()
def evaluate(
    package: Annotated[Path, typer.Option(help="directory of a package")],
    data: DataOption = "generated",
    seed: Annotated[int, typer.Option(help="seed of the generated catalogue")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Evaluate the ONNX file of a package beside the baselines; needs no torch."""
    try:
        metrics, users = _evaluate(package, data, seed)
    except (ServingError, ValueError) as error:
        raise _fail(error) from error
    if as_json:
        print(json.dumps(metrics))
    else:
        _print_metrics(f"{Path(data).name}: next choice of {users} users, unsampled", metrics)


def _evaluate(package: Path, source: str, seed: int) -> tuple[dict[str, Any], int]:
    from serving import DataError, baselines, catalogue, export, manifest, repository
    from serving import data as behaviours
    from serving import evaluate as evaluation

    manifest.verify(package)
    behaviour = behaviours.load(source, seed=seed)
    served = catalogue.from_bytes((package / repository.CATALOGUE_FILE).read_bytes())
    if [item.id for item in served] != [item.id for item in behaviour.items]:
        raise DataError(f"{source}: {len(behaviour.items)} items, not the catalogue of the package; use its own data")
    split = behaviours.Split.of(behaviour)
    exported = export.OnnxModel((package / repository.MODEL_FILE).read_bytes())
    answers, _ = exported.answers(evaluation.padded(split.test))
    popularity = baselines.Popularity(count=baselines.counts(split.train, len(behaviour.items)))
    counted = baselines.CoOccurrence.of(split.train, len(behaviour.items))
    qualities = {
        "popularity": evaluation.evaluate(popularity, split.test),
        "co-occurrence": evaluation.evaluate(counted, split.test),
        "model as served (ONNX)": evaluation.evaluate_answers(answers, split.test),
    }
    return {name: quality.to_json() for name, quality in qualities.items()}, len(split.test)


def _print_metrics(title: str, metrics: dict[str, dict[str, float]]) -> None:
    from serving.evaluate import Quality, table

    rows = {name: Quality(hr=values["hr@10"], ndcg=values["ndcg@10"]) for name, values in metrics.items()}
    Console().print(table(title, rows, beside="popularity"))


if __name__ == "__main__":
    app()
