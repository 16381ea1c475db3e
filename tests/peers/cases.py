"""The optimizers that are held to their authors' loops: how a user names each, and how its author's loop goes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.peers.task import (
    Loop,
    SwitchedLoop,
    from_a_gradient,
    model,
    normalized,
    plainly,
    switching,
    switching_with_closure,
    with_closure,
    with_graph,
    with_the_loss,
)


@dataclass(frozen=True)
class Case:
    """One optimizer.

    Attributes:
        distribution: the package to install.
        name: its name, a word that ``thalweg compare`` takes; of a factory what it is made of.
        loop: its author's loop.
        make: makes it for that loop, of a model and the number of steps; None where it takes parameters alone.
        factory: what the user writes where a name is not enough.
        cost: gradient evaluations of a step.
        build: makes the model.
        note: what is particular.
    """

    distribution: str
    name: str
    loop: Callable[[Any, Any], None] = plainly
    make: Callable[[nn.Module, int], Any] | None = None
    factory: Callable[..., Any] | None = None
    cost: int = 1
    build: Callable[[], nn.Module] = model
    note: str = ""

    @property
    def kind(self) -> type[Loop]:
        return SwitchedLoop if self.loop in (switching, switching_with_closure) else Loop


def _of(distribution: str, package: str, names: str, *rest: Any, **options: Any) -> list[Case]:
    return [Case(distribution, f"{package}.{name}", *rest, **options) for name in names.split()]


def _module(name: str) -> Any:
    import importlib

    return importlib.import_module(name)


def _wrapped_sgd(params: Any, lr: float = 0.25) -> Any:
    return _module("schedulefree").ScheduleFreeWrapper(torch.optim.SGD(params, lr=lr), momentum=0.9)


def _lookahead(params: Any, lr: float = 1e-3) -> Any:
    return _module("pytorch_optimizer").Lookahead(torch.optim.AdamW(params, lr=lr), k=5, alpha=0.5)


def _old_lookahead(params: Any, lr: float = 1e-3) -> Any:
    return _module("torch_optimizer").Lookahead(_module("torch_optimizer").Yogi(params, lr=lr), k=5, alpha=0.5)


def _sam(kind: str, **settings: Any) -> Callable[..., Any]:
    def made(params: Any, lr: float = 0.05) -> Any:
        peers = _module("pytorch_optimizer")
        return getattr(peers, kind)(params, base_optimizer=torch.optim.SGD, lr=lr, momentum=0.9, **settings)

    return made


def _wsam(model: nn.Module, lr: float = 0.05) -> Any:
    peers, params = _module("pytorch_optimizer"), [p for p in model.parameters() if p.requires_grad]
    return peers.WSAM(model, params, base_optimizer=torch.optim.SGD, lr=lr, momentum=0.9)


def _heavy_sam(params: Any, lr: float = 0.0025) -> Any:
    _module("heavyball.utils").compile_mode = None
    params = list(params)
    return _module("heavyball").SAMWrapper(params, _module("heavyball").AdamW(params, lr=lr))


def _heavy(kind: str) -> Callable[..., Any]:
    def made(params: Any, lr: float = 0.0025) -> Any:
        _module("heavyball.utils").compile_mode = None  # which changes no value, and takes a minute less
        return getattr(_module("heavyball"), kind)(params, lr=lr)

    return made


def _muon(model: nn.Module, lr: float = 0.02) -> Any:
    hidden = [model[2].weight]  # type: ignore[index]
    others = [p for p in model.parameters() if p is not hidden[0]]
    groups = [{"params": hidden, "use_muon": True, "lr": lr}, {"params": others, "use_muon": False, "lr": lr / 10}]
    return _module("muon").SingleDeviceMuonWithAuxAdam(groups)


def _peers_muon(model: nn.Module, lr: float = 0.02) -> Any:
    hidden = [model[2].weight]  # type: ignore[index]
    others = [p for p in model.parameters() if p is not hidden[0]]
    groups = [{"params": hidden, "use_muon": True, "lr": lr}, {"params": others, "use_muon": False, "lr": lr / 10}]
    return _module("pytorch_optimizer").Muon(groups)


def _wrapped(kind: str, **settings: Any) -> Callable[..., Any]:
    def made(params: Any, lr: float = 1e-3) -> Any:
        return getattr(_module("pytorch_optimizer"), kind)(torch.optim.AdamW(params, lr=lr), **settings)

    return made


def _of_params(factory: Callable[..., Any]) -> Callable[[nn.Module, int], Any]:
    return lambda model, steps: factory(model.parameters())


def _own(distribution: str, name: str, factory: Callable[..., Any], loop: Any = plainly, **options: Any) -> Case:
    return Case(distribution, name, loop, _of_params(factory), factory, **options)


def _of_model(distribution: str, name: str, factory: Callable[..., Any], loop: Any = plainly, **options: Any) -> Case:
    return Case(distribution, name, loop, lambda model, steps: factory(model), factory, **options)


FREE, PEERS, OLD = "schedulefree", "pytorch_optimizer", "torch-optimizer"
CASES: list[Case] = [
    *_of("torch", "torch.optim", "SGD Adam AdamW Adamax NAdam RAdam RMSprop Adagrad Adadelta Adafactor ASGD Rprop"),
    *_of(FREE, "schedulefree", "SGDScheduleFree AdamWScheduleFree RAdamScheduleFree", switching),
    *_of(FREE, "schedulefree", "SGDScheduleFreeReference AdamWScheduleFreeReference", switching),
    *_of(
        FREE, "schedulefree", "SGDScheduleFreeClosure AdamWScheduleFreeClosure RAdamScheduleFreeClosure", with_closure
    ),
    _own(FREE, "schedulefree.ScheduleFreeWrapper of SGD", _wrapped_sgd, switching),
    Case(FREE, "schedulefree.AdamWScheduleFree", switching, build=normalized, note="with batch normalization"),
    *_of("prodigyopt", "prodigyopt", "Prodigy"),
    *_of("prodigy-plus-schedule-free", "prodigyplus", "ProdigyPlusScheduleFree", switching),
    *_of("dadaptation", "dadaptation", "DAdaptAdam DAdaptSGD DAdaptAdaGrad DAdaptLion DAdaptAdan"),
    *_of("lion-pytorch", "lion_pytorch", "Lion"),
    *_of("madgrad", "madgrad", "MADGRAD MirrorMADGRAD"),
    *_of("adabelief-pytorch", "adabelief_pytorch", "AdaBelief"),
    *_of("adan-pytorch", "adan_pytorch", "Adan"),
    *_of("came-pytorch", "came_pytorch", "CAME"),
    *_of("torch-optimi", "optimi", "SGD AdamW Adan Lion RAdam Ranger StableAdamW"),
    Case(
        "adam-mini",
        "adam_mini.Adam_mini",
        make=lambda model, steps: _module("adam_mini").Adam_mini(model.named_parameters()),
        note="takes named parameters",
    ),
    _of_model("muon-optimizer", "muon.SingleDeviceMuonWithAuxAdam", _muon, note="groups made by a function"),
    *_of("muon-optimizer", "muon", "Muon"),
    *_of("flashoptim", "flashoptim", "FlashAdamW"),
    *_of(
        PEERS, "pytorch_optimizer", "Lion AdEMAMix SimplifiedAdEMAMix AdaBelief Adan AdamP Lamb LARS SOAP Shampoo Kron"
    ),
    *_of(
        PEERS, "pytorch_optimizer", "ScalableShampoo MARS ADOPT CAME Tiger Grams StableAdamW Prodigy DAdaptAdam Ranger"
    ),
    *_of(PEERS, "pytorch_optimizer", "AdaFactor SPAM StableSPAM Yogi Fira NovoGrad FOCUS"),
    *_of(PEERS, "pytorch_optimizer", "ScheduleFreeSGD ScheduleFreeAdamW ScheduleFreeRAdam SPlus", switching),
    *_of(PEERS, "pytorch_optimizer", "SophiaH AdaHessian", with_graph, cost=3),
    *_of(PEERS, "pytorch_optimizer", "AliG", with_the_loss, note="takes its step from the loss"),
    Case(
        PEERS,
        "pytorch_optimizer.Ranger21",
        make=lambda model, steps: _module("pytorch_optimizer").Ranger21(model.parameters(), num_iterations=steps),
        note="is told the number of steps",
    ),
    Case(
        PEERS,
        "pytorch_optimizer.AdamMini",
        make=lambda model, steps: _module("pytorch_optimizer").AdamMini(model),
        note="takes the model",
    ),
    _of_model(PEERS, "pytorch_optimizer.Muon", _peers_muon, note="groups made by a function"),
    _own(PEERS, "pytorch_optimizer.SAM of SGD", _sam("SAM"), from_a_gradient, cost=2),
    _own(PEERS, "pytorch_optimizer.LookSAM of SGD", _sam("LookSAM"), from_a_gradient, cost=2),
    _of_model(PEERS, "pytorch_optimizer.WSAM of SGD", _wsam, with_closure, cost=2),
    _own(PEERS, "pytorch_optimizer.Lookahead of AdamW", _lookahead),
    _own(PEERS, "pytorch_optimizer.TRAC of AdamW", _wrapped("TRAC")),
    _own(PEERS, "pytorch_optimizer.OrthoGrad of AdamW", _wrapped("OrthoGrad")),
    _own(PEERS, "pytorch_optimizer.ScheduleFreeWrapper of AdamW", _wrapped("ScheduleFreeWrapper"), switching),
    *_of(
        OLD, "torch_optimizer", "AdaBound AdaMod AdamP AggMo Apollo DiffGrad Lamb MADGRAD NovoGrad PID QHAdam QHM RAdam"
    ),
    *_of(OLD, "torch_optimizer", "Ranger SGDP SGDW SWATS Shampoo Yogi A2GradExp AccSGD"),
    *_of(OLD, "torch_optimizer", "Adahessian", with_graph, cost=3),
    _own(OLD, "torch_optimizer.Lookahead of Yogi", _old_lookahead),
    *(
        _own("heavyball", f"heavyball.{kind}", _heavy(kind))
        for kind in ["AdamW", "NAdam", "ADOPT", "LaProp", "SOAP", "PSGDKron", "Muon", "Scion", "SUDSAdamW"]
    ),
    _own("heavyball", "heavyball.SFAdamW", _heavy("SFAdamW"), switching),
    _own("heavyball", "heavyball.MSAMLaProp", _heavy("MSAMLaProp"), switching),
    _own("heavyball", "heavyball.SAMWrapper of AdamW", _heavy_sam, with_closure, cost=2),
]
