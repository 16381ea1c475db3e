"""The training loop over ranks: the run of one process, in whatever way batches divide, and on from its checkpoints."""

import re
from functools import partial

import pytest
import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from tests.distributed.group import Checks, make_checks, same_everywhere, sharded
from tests.training.small import LOSS, Cut, CutAfter, copy, data, equal, net, stage
from tests.training.test_resume import without_time
from thalweg import optim
from thalweg.averaging import EMA, Average
from thalweg.cli import processes
from thalweg.curriculum import CurriculumSampler, Pacing, SelfPaced
from thalweg.normalization import convert_batch_norm
from thalweg.stages import Batches, EarlyStopping, Measures, Plan
from thalweg.tensors.files import FileError
from thalweg.training import CheckpointError, train
from thalweg.training.shard import divide, undivided
from thalweg.training.sharded_state import is_sharded

pytestmark = pytest.mark.slow

CHECKS = Checks()
CPU = torch.device("cpu")
X, Y = data(51, torch.float64)


def one_model(dropout=0.0):
    """Returns a model for one process. No rounding grows in it: there is no kink, and no bias before batch norm."""
    made = net(torch.float64, dropout)
    made[0].register_parameter("bias", None)
    made[2] = nn.Tanh()
    return made


def model(dropout=0.0):
    return convert_batch_norm(one_model(dropout), synchronize=True)


def whole(model):
    return {n: v.full_tensor() if hasattr(v, "full_tensor") else v.clone() for n, v in model.state_dict().items()}


def together(model, stages, **options):
    return train(model, stages, process_group=distributed.group.WORLD, **options)


def close(one, two):
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


def rows(history):
    """Returns the rows' numbers, without their times."""
    return [list(row.values())[1:] for row in without_time(history)]


def compare(make_stage, wrap=lambda m: m):
    """Trains by one process and by all; returns the model of all."""
    one, many = one_model(), wrap(model())
    expected, found = train(one, [make_stage(one)]), together(many, [make_stage(many)])
    close(whole(many), copy(one))
    close(torch.tensor(rows(found), dtype=torch.float64), torch.tensor(rows(expected), dtype=torch.float64))
    same_everywhere((rows(found), [v.tolist() for v in whole(many).values()]))
    return many


OPTIMIZERS = {
    "adam": partial(optim.Adam, lr=0.01, clip_norm=0.3),
    "torch's": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "lbfgs": partial(optim.LBFGS, max_iter=4),
    "bfgs": partial(optim.BFGS, max_iter=4),
    "torch's lbfgs": partial(torch.optim.LBFGS, max_iter=4, line_search_fn="strong_wolfe"),
}


def stepped(name):
    """Returns a stage with an optimizer of that name; those that search a line have the whole data for it."""
    size, steps = (51, 3) if "bfgs" in name else (16, 9)
    return stage(optimizer=OPTIMIZERS[name], data=Batches(X, Y, batch_size=size), steps=steps, evaluate_every=2)


@CHECKS.among(2)
def every_optimizer_takes_the_steps_of_one_process(folder):
    """In batches of 16, 16, 16 and 3: of four ranks one has no row of the last."""
    for name in OPTIMIZERS:
        compare(lambda _, name=name: stepped(name))


@CHECKS.among(2)
def shards_take_them_too(folder):
    for name in ("adam", "torch's", "lbfgs"):
        compare(lambda _, name=name: stepped(name), lambda m: divide(m, distributed.group.WORLD, CPU, least=1))


@CHECKS.among(2)
def all_that_a_stage_can_have_is_that_of_one_process(folder):
    def made(model):
        return stage(
            data=DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True),
            accumulate=3,
            rates={"0": 0.1},
            validate=Measures([(X, Y)], loss=LOSS),
            average=lambda m: Average(m, EMA(0.8), buffers="average"),
            early_stopping=EarlyStopping(1, least=0.01),
            steps=40,
            evaluate_every=2,
            schedule=lambda t, total: 1 / (1 + t),
        )

    for wrap in (sharded, lambda m: m):
        compare(made, wrap)


@CHECKS.among(2)
def an_objective_may_call_parts_of_the_model_and_leave_others_out(folder):
    def objective(model, batch, step):
        hidden = model[:4](batch[0])
        return LOSS(model[4:](hidden), batch[1]) if step % 2 else hidden.square().mean()

    compare(lambda _: stage(objective=objective, data=Batches(X, Y, batch_size=16), steps=6))


@CHECKS.among(2)
def a_curriculum_is_divided_by_its_sampler(folder):
    size, rank = distributed.get_world_size(), distributed.get_rank()
    dataset, difficulty = TensorDataset(X[:48], Y[:48]), X[:48].square().sum(dim=1)
    for wrap, kind in (
        (lambda m: m, lambda m: SelfPaced(m, dataset, LOSS, every=4)),
        (sharded, lambda m: difficulty),
    ):

        def made(model, ranks, rank, kind=kind):
            pacing = Pacing("linear", start=0.25, over=6)
            sampler = CurriculumSampler(kind(model), pacing, batch_size=12 // ranks, num_replicas=ranks, rank=rank)
            return stage(data=DataLoader(dataset, batch_size=12 // ranks, sampler=sampler), steps=9)

        one, many = one_model(), wrap(model())
        train(one, [made(one, 1, 0)])
        together(many, [made(many, size, rank)])
        close(whole(many), copy(one))


def resumed(make_model, make_stages, path, cuts):
    for steps in [*cuts, 10**9]:
        made, callback = make_model(), CutAfter(steps)
        try:
            history = together(made, make_stages(), checkpoint=path, checkpoint_every=1, resume=True, callback=callback)
        except Cut:
            distributed.barrier()
            continue
        return made, history
    raise AssertionError


def stages():
    judge = Measures([(X, Y)], loss=LOSS)
    return [
        stage(data=Batches(X, Y, batch_size=16), steps=7, evaluate_every=3, validate=judge),
        stage(
            name="second",
            optimizer=partial(optim.LBFGS, max_iter=3),
            data=Batches(X, Y, batch_size=51),
            average=lambda m: Average(m, EMA(0.8), buffers="average"),
            validate=judge,
            early_stopping=EarlyStopping(9),
            steps=5,
            evaluate_every=1,
        ),
    ]


@CHECKS.among(2)
def a_run_that_was_cut_off_goes_on_bit_for_bit(folder):
    """With dropout, where the second optimizer does not mind it: every stream of draws goes on."""
    size = distributed.get_world_size()
    for wrap, dropout, plan in ((lambda m: m, 0.3, lambda: stages()[:1]), (sharded, 0.0, stages)):
        expected = wrap(model(dropout))
        history = together(expected, plan())
        path = folder / f"cut with dropout {dropout} of {size}"
        again, rows_again = resumed(lambda w=wrap, d=dropout: w(model(d)), plan, path, [2, 3])
        assert equal(whole(again), whole(expected))
        assert rows(rows_again) == rows(history)
    distributed.barrier()
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


@CHECKS.among(2)
def ranks_draw_apart_what_the_model_draws_and_alike_what_the_data_do(folder):
    seen = []

    def objective(model, batch, step):
        seen.append((torch.rand(()).item(), batch[0].sum().item()))
        return LOSS(model(batch[0]), batch[1])

    x = torch.ones(32, 6, dtype=torch.float64)
    together(
        model(),
        [stage(objective=objective, data=DataLoader(TensorDataset(x, data(32)[1]), 16, shuffle=True), steps=3)],
    )
    every = [None] * distributed.get_world_size()
    distributed.all_gather_object(every, seen)
    assert len({drawn for rank in every for drawn, _ in rank}) == 3 * len(every)
    assert {given for rank in every for _, given in rank} == {16 * 6 / len(every)}


@CHECKS.among(2)
def other_numbers_of_ranks_go_on_to_rounding(folder):
    """One process begins what all end; two begin what four end, and one ends it too."""
    expected = one_model()
    train(expected, stages())
    size, path = distributed.get_world_size(), folder / f"one, then {distributed.get_world_size()}"
    if distributed.get_rank() == 0:
        with pytest.raises(Cut):
            train(one_model(), stages(), checkpoint=path, checkpoint_every=1, callback=CutAfter(9))
    distributed.barrier()
    many = model()
    together(many, stages(), checkpoint=path, resume=True)
    close(whole(many), copy(expected))
    path = folder / "two, then others"
    if size == 2:
        with pytest.raises(Cut):
            together(sharded(model()), stages(), checkpoint=path, checkpoint_every=1, callback=CutAfter(9))
        distributed.barrier()
    bytes_before = path.read_bytes()
    distributed.barrier()
    one, many = one_model(), sharded(model())
    together(many, stages(), checkpoint=path, resume=True)
    close(whole(many), copy(expected))
    distributed.barrier()
    mine = folder / f"{distributed.get_rank()} of {size}"
    mine.write_bytes(bytes_before)
    train(one, stages(), checkpoint=mine, resume=True)
    close(copy(one), copy(expected))
    distributed.barrier()
    path.write_bytes(bytes_before)  # all ranks write the same
    distributed.barrier()


@CHECKS.among(2)
def what_ranks_cannot_train_is_refused_by_all(folder):
    rank, batches = distributed.get_rank(), Batches(X, Y, batch_size=16)
    plain = one_model()

    def lost(model, batch, step):
        return LOSS(model(batch[0]), batch[1]) + (torch.nan if rank == 1 else 0)

    def spoilt(model, batch, step):
        if rank == 1:
            model[6].bias.register_hook(lambda gradient: gradient * torch.nan)
        return LOSS(model(batch[0]), batch[1])

    dataset = TensorDataset(X, Y)
    elsewhere = DataLoader(dataset, 8, sampler=DistributedSampler(dataset, num_replicas=3, rank=1))
    for made, refused, words in (
        (plain, stage(data=batches), "batch norm '1' would normalize each rank's share of a batch separately: "),
        (model(), stage(data=batches, objective=nn.Linear(6, 3)), "the objective keeps state"),
        (model(), stage(data=batches, optimizer=optim.Newton), "Newton multiplies by the curvature"),
        (model(), stage(data=[(X, Y[:3])]), "a batch holds tensors of [3, 51] rows and cannot be divided"),
        (model(), stage(data=elsewhere), "has a sampler for rank 1 of 3, on rank"),
        (model(), stage(data=batches, objective=lost), "the training loss is nan in steps 1 to 1"),
        (model(), stage(data=batches, objective=spoilt), "6.bias is not finite after step 1"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            together(made, [refused], checkpoint=folder / f"refused {distributed.get_world_size()}", checkpoint_every=1)
    path = folder / f"not for all {distributed.get_world_size()}" / "run.pt"
    path.parent.mkdir(exist_ok=True)
    with pytest.raises(FileError, match="cannot write"):
        together(model(), [stage(data=batches)], checkpoint=folder / "nowhere" / "run.pt")
    hidden = path if rank == 0 else path.with_name("another")
    if rank == 0:
        path.write_bytes(b"")
    distributed.barrier()
    with pytest.raises(CheckpointError, match="exists for some ranks but not for others"):
        together(model(), [stage(data=batches)], checkpoint=hidden, resume=True)


@CHECKS.among(2)
def processes_agree_on_what_is_wrong_before_they_begin(folder):
    group, rank, size = distributed.group.WORLD, distributed.get_rank(), distributed.get_world_size()

    def begin(badly):
        if badly:
            raise ValueError("no task")

    for bad, words in ((range(size), "no task"), ((1,), f"process 1 of {size}: no task")):
        with pytest.raises(ValueError, match=f"^{words}$"), processes.agreeing(group):
            begin(rank in bad)
    small, two = stage(data=Batches(X, Y, batch_size=size - 1)), stage(data=Batches(X, Y, batch_size=size))
    with pytest.raises(
        ValueError, match=f"a batch of {size - 1} cannot be divided among {size} processes: start at most {size - 1}"
    ):
        processes.check(Plan(model(), [two, small]), group, shard=False)
    with pytest.raises(ValueError, match="--shard requires a model that is trained as a whole"):
        processes.check(Plan(model(), [two, two]), group, shard=True)
    processes.check(Plan(model(), [two]), group, shard=True)


@CHECKS.among(2)
def all_processes_begin_with_the_first_ones_weights(folder):
    torch.manual_seed(distributed.get_rank())
    made = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    processes.synchronize(made, distributed.group.WORLD)
    same_everywhere([v.tolist() for v in copy(made).values()])
    before = copy(made)
    found = undivided(
        divide(made, distributed.group.WORLD, CPU), lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    )
    assert not is_sharded(found)
    if distributed.get_rank() == 0:
        assert equal(copy(found), before)


def test_ranks_train_together(tmp_path):
    make_checks(__name__, 2, tmp_path)
