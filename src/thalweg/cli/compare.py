"""``thalweg compare``."""

import json
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from thalweg.cli.console import Quiet, Terminal, progress_terminal, result_terminal
from thalweg.cli.ranking import show
from thalweg.compare.execution import EngineName
from thalweg.compare.study import Judge

if TYPE_CHECKING:
    from thalweg.compare.execution.ray.engines import Cluster


def command(
    task: Annotated[
        str, typer.Argument(help="Name of a built-in task (see thalweg list tasks), or your own as my.py:task.")
    ] = "digits",
    strategies: Annotated[
        str | None,
        typer.Option(
            help="Strategies, comma-separated, each OPTIMIZER[+WORD...][@SCHEDULE], torch.optim.X or my.py:name.",
            show_default="eight optimizers; adam alone if an option below varies the model",
        ),
    ] = None,
    add: Annotated[
        str | None,
        typer.Option(
            help="Strategies, comma-separated, to add to the study in the folder, which has those of --strategies. "
            "More --seeds than it has are added, too."
        ),
    ] = None,
    initializations: Annotated[
        str | None,
        typer.Option(help="Initializations, comma-separated, or all. Every strategy is combined with each of them."),
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option(help="none, batch or both, comma-separated. Every strategy is combined with each of them."),
    ] = None,
    averaging: Annotated[
        str | None, typer.Option(help="Any of none, polyak and ema, comma-separated. The averaged model is evaluated.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Architectures that the task names, comma-separated.")
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            help="Any of none, greedy, transfer, fitnet, curriculum, smoothing and others (see thalweg list guidances)."
        ),
    ] = None,
    swap_batch_norm: Annotated[
        bool,
        typer.Option(
            "--swap-batch-norm", help="Replace torch's batch normalization with one that the lanes engine supports."
        ),
    ] = False,
    tune: Annotated[
        Literal["more"] | None,
        typer.Option(
            help="more: tune what the guide lists for each optimizer, in addition to its learning rate.",
            show_default="the learning rate, and what second-order strategies and guidances have",
        ),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STRATEGY.NAME=RANGE",
            help="Search a hyperparameter: LOW:HIGH, LOW:HIGH:linear (or log, one-minus, whole), or A|B|C. Without a "
            "scale, betas and momentum are logarithmic in 1 - x, positive ranges of a ratio of 10 or more logarithmic, "
            "and others linear. Can be repeated.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="STRATEGY.NAME=NUMBER", help="Set a hyperparameter, and do not search it. Can be repeated."
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None, typer.Option(help="Precision in which the model runs, by autocast.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Minibatches whose mean gradient is that of a step, which counts as one.")
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="Largest norm of a step's gradient; by default it is not clipped.")
    ] = None,
    no_decay: Annotated[
        bool,
        typer.Option(
            "--no-decay", help="Leave biases and normalizations out of weight decay; Task(no_decay=) names others."
        ),
    ] = False,
    decay: Annotated[
        Literal["all", "weights"],
        typer.Option(help="Parameters to which weight decay applies: all, or weights of two or more dimensions."),
    ] = "all",
    within: Annotated[
        float | None,
        typer.Option(
            help="Difference of what is judged inside which strategies count as equivalent, in its unit.",
            show_default="a tenth of the spread between the strategies",
        ),
    ] = None,
    judge: Annotated[
        Judge,
        typer.Option(
            help="What is judged, and tuned for: the test metric, or what training takes until the validation metric "
            "reaches a target, in gradient evaluations (time-to-target) or in seconds on this machine."
        ),
    ] = "metric",
    target: Annotated[
        float | None,
        typer.Option(help="Target of the validation metric.", show_default="the task's, or chosen from the runs"),
    ] = None,
    until: Annotated[
        Literal["decided"] | None,
        typer.Option(
            help="decided: add up to three batches of tuning and final runs, of three fifths of --seeds each, until "
            "nothing is left to decide.",
            show_default="one batch of final runs",
        ),
    ] = None,
    at_most: Annotated[
        str | None,
        typer.Option(
            help="With --until decided: add no batch that would end later than this, such as 20min or 1.5h.",
            show_default="no limit",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(help="Number of configurations per strategy, in addition to its default one.")
    ] = 12,
    steps: Annotated[
        int | None, typer.Option(help="Number of gradient evaluations of a complete run.", show_default="the task's")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Length of a complete run in passes over the training data, in place of --steps."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time of the whole study, such as 20min or 1.5h, in place of --steps: runs get the length that fits, "
            "judging by measured costs."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Number of final runs of each strategy, each with a tuning and a seed of its own.")
    ] = 10,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="How to run trials: auto measures lanes and serial and takes the faster; ray uses a cluster."
        ),
    ] = "auto",
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster: host:port, or ray://host:port for a Ray client.",
            show_default="$RAY_ADDRESS, or a new one on this machine",
        ),
    ] = None,
    ray_workers: Annotated[
        int | None, typer.Option(help="Number of Ray workers.", show_default="as many as the cluster can hold")
    ] = None,
    ray_cpus: Annotated[float | None, typer.Option(help="Number of CPUs per Ray worker.", show_default="1")] = None,
    ray_gpus: Annotated[
        float | None,
        typer.Option(help="Number of GPUs per Ray worker; with 0.5, two workers share one.", show_default="0"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device to train on, such as cpu or cuda.", show_default="cuda if available")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder in which the study is stored.", show_default="thalweg-TASK")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory limit of the lanes engine, such as 4G or 500M.", show_default="half of the free memory"
        ),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRACKER[=PLACE]", help="Also log the records to tensorboard, mlflow or wandb. Can be repeated."
        ),
    ] = None,
    trial_seconds: Annotated[
        float | None,
        typer.Option(help="Stop a run that takes longer than this from one rung to the next.", show_default="none"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed from which all random numbers are derived.")] = 0,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print results.json to standard output, and everything else to standard error."),
    ] = False,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            help='Exit with code 1 unless this holds, e.g. "adam beats sgd" or "adam ties sgd". Can be repeated.'
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Find out which strategy trains a model best, by how much, with what confidence and at what cost.

    Example: `thalweg compare my.py:task --strategies adam,momentum@cosine --trials 16 --seeds 10`

    Example: `thalweg compare digits-deep --initializations default,glorot-normal,orthogonal`

    Example: `thalweg compare digits --strategies momentum --normalization none,batch --averaging none,ema`

    Example: `thalweg compare digits-deep --strategies adam --guidance none,greedy,fitnet,curriculum`

    Example: `thalweg compare digits --strategies adamw,sgd --space adamw.weight_decay=1e-4:1e-1 --set adamw.lr=0.003`

    Example: `thalweg compare digits --judge time-to-target --target 0.95 --strategies sgd,adam`

    Example: `thalweg compare digits --strategies sgd,adam --add muon --seeds 20`

    Exit codes: 0 finished; 1 an expectation does not hold; 2 invalid input; 130 interrupted; 143 terminated. After 130
    or 143, the same command resumes the study.
    """
    from thalweg.cli.ending import Terminated, own_output, raised_by
    from thalweg.cli.progress import LiveReporter
    from thalweg.compare.arguments import size
    from thalweg.compare.run import run
    from thalweg.compare.strategy import DEFAULT_STRATEGIES, Strategy, crossed
    from thalweg.compare.strategy.options import widened, with_options
    from thalweg.compare.strategy.variants import INITIALIZATIONS
    from thalweg.compare.study.config import StudyConfig, listed, parsed
    from thalweg.compare.study.verdict import check_expectation, parse_expectation

    console = result_terminal(as_json)
    axes: dict[str, list[str]] = {}
    if initializations is not None:
        axes["initialization"] = (
            list(INITIALIZATIONS) if initializations == "all" else listed(initializations, "initializations")
        )
    for axis, words in (
        ("architecture", architecture),
        ("normalization", normalization),
        ("averaging", averaging),
        ("guidance", guidance),
    ):
        if words is not None:
            axes[axis] = ["batch-norm" if word == "batch" else word for word in listed(words, axis)]
    here = Path.cwd()  # the user's code may change it
    given = listed(strategies, "strategies") if strategies is not None else ["adam"] if axes else DEFAULT_STRATEGIES
    names = crossed(given, axes)
    more = parsed(add, here) if add is not None else []
    chosen = widened([*(Strategy.parse(name, here) for name in names), *more], tune)
    chosen = with_options(chosen, space or [], set_ or [])
    for text in expect or []:
        parse_expectation(text, [strategy.name for strategy in chosen])
    shares = {"address": ray_address, "workers": ray_workers, "cpus": ray_cpus, "gpus": ray_gpus}
    config = StudyConfig(
        task,
        chosen,
        trials=trials,
        steps=steps,
        epochs=epochs,
        budget=budget,
        seeds=seeds,
        engine=engine,
        cluster=_cluster(engine, {name: value for name, value in shares.items() if value is not None}),
        device=device,
        out=out,
        memory=None if memory is None else size(memory),
        swap_batch_norm=swap_batch_norm,
        decay=decay,
        precision=precision,
        accumulate=accumulate,
        clip_norm=clip_norm,
        no_decay=True if no_decay else None,
        within=within,
        judge=judge,
        target=target,
        until=until,
        at_most=at_most,
        trial_seconds=trial_seconds,
        log=log or (),
        seed=seed,
        added=[strategy.name for strategy in more],
        here=here,
    )
    # Nothing but the results may stand on standard output then, whatever a task or Ray prints.
    printed = own_output(apart=as_json)
    with raised_by(signal.SIGTERM, Terminated), LiveReporter(progress_terminal(as_json)) as reporter, printed:
        done = run(config, reporter, shlex.join(["thalweg", *sys.argv[1:]]))
    show(done, console, here)
    if as_json:
        print(json.dumps(done.results, indent=1, allow_nan=False))
    for text in expect or []:
        if not check_expectation(text, done.results["pairs"]):
            Terminal(stderr=True).print(
                f"the verdict does not meet the expectation {text!r}", style="red", markup=False
            )
            raise typer.Exit(1)


def _cluster(engine: str, shares: Mapping[str, Any]) -> "Cluster | None":
    """Returns what Ray's options ask for; None for another engine."""
    if engine == "ray":
        from thalweg.compare.execution.ray.engines import Cluster

        return Cluster(**shares)
    if shares:
        raise ValueError(f"--ray-{next(iter(shares))} requires --engine ray: add that, or omit this option")
    return None
