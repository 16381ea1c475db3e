"""The estimators: scikit-learn's own checks, its results, and what a dictionary must keep to."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import decomposition as peer
from sklearn.linear_model import orthogonal_mp
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils._test_common import instance_generator
from sklearn.utils.estimator_checks import check_estimator

from thalweg.coordinate import (
    DictionaryLearning,
    MiniBatchDictionaryLearning,
    SparseCoder,
    duality_gap,
    orthogonal_matching_pursuit,
    update_atoms,
)
from thalweg.coordinate.coder import encode

LEARNERS = [DictionaryLearning, MiniBatchDictionaryLearning]


def data(n=120, d=10, k=15, seed=0):
    rng = np.random.default_rng(seed)
    return rng.laplace(size=(n, k)) * (rng.random((n, k)) < 0.3) @ rng.normal(size=(k, d))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "estimator",
    [
        DictionaryLearning(max_iter=5, transform_algorithm="lasso_lars"),
        MiniBatchDictionaryLearning(batch_size=10, max_iter=5),
    ],
    ids=lambda e: type(e).__name__,
)
def test_scikit_learns_checks_pass(estimator):
    check_estimator(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("algorithm", ["omp", "lasso_cd", "threshold"])
def test_scikit_learns_checks_of_its_coder_pass(algorithm, monkeypatch):
    # The checks differ in width; as in scikit-learn's own tests each has a dictionary that fits.
    fitting = instance_generator.PER_ESTIMATOR_CHECK_PARAMS
    monkeypatch.setitem(fitting, SparseCoder, fitting[peer.SparseCoder])
    dictionary = instance_generator.INIT_PARAMS[peer.SparseCoder]["dictionary"]
    check_estimator(SparseCoder(dictionary, transform_algorithm=algorithm))


def test_coder_keeps_names_and_refuses_another_width_as_scikit_learn_does():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(data()[:, :3], columns=["a", "b", "c"])
    coder = SparseCoder(np.eye(3)).fit(frame)
    assert list(coder.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names should match"):
        coder.transform(frame[["c", "b", "a"]])
    for call in (SparseCoder(np.eye(4)).fit, SparseCoder(np.eye(4)).transform):
        with pytest.raises(ValueError, match="Dictionary and X have different numbers of features"):
            call(data())


@pytest.mark.parametrize("algorithm", ["omp", "lasso_cd", "lasso_lars", "threshold"])
@pytest.mark.parametrize("split", [False, True])
def test_coder_gives_scikit_learns_codes(algorithm, split):
    x, atoms = data(), np.random.default_rng(1).normal(size=(15, 10))
    options = {
        "transform_algorithm": algorithm,
        "transform_alpha": 0.7,
        "split_sign": split,
        "transform_max_iter": 10_000,
    }
    ours, reference = SparseCoder(atoms, gap_tol=1e-10, **options).fit(x), peer.SparseCoder(atoms, **options).fit(x)
    np.testing.assert_allclose(ours.transform(x), reference.transform(x), atol=1e-4)
    codes = ours.transform(x)
    np.testing.assert_allclose(ours.inverse_transform(codes), reference.inverse_transform(codes), atol=1e-10)
    names = list(ours.get_feature_names_out())
    assert len(names) == codes.shape[1]
    assert names[:15] == list(reference.get_feature_names_out())  # which forgets the other half


@pytest.mark.parametrize("options", [{"n_nonzero": 4}, {"tol": 2.0}, {"n_nonzero": 3, "tol": 20.0}])
def test_matching_pursuit_is_scikit_learns(options):
    x, atoms = data(), np.random.default_rng(1).normal(size=(15, 10))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    ours = orthogonal_matching_pursuit(torch.from_numpy(x), torch.from_numpy(atoms), **options)
    for row, code in zip(x, ours.numpy(), strict=True):
        tol, size = options.get("tol", 0.0), options.get("n_nonzero", 10)
        if (row**2).sum() <= tol:
            assert not code.any()  # scikit-learn takes one atom even so
            continue
        reference = orthogonal_mp(atoms.T, row, n_nonzero_coefs=size)
        if "tol" in options:
            exact = orthogonal_mp(atoms.T, row, tol=tol)
            reference = exact if (exact != 0).sum() <= size else reference
        np.testing.assert_allclose(code, reference, atol=1e-8)


def test_matching_pursuit_ends_with_atoms_that_depend_on_each_other():
    atoms = torch.eye(3).repeat(2, 1)
    x = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    codes = orthogonal_matching_pursuit(x, atoms, 6)
    torch.testing.assert_close(codes @ atoms, x)
    assert (codes != 0).sum(1).tolist() == [3, 0]


def test_atoms_reach_the_least_cost_in_the_ball():
    rng = torch.Generator().manual_seed(0)
    c, x = (torch.randn(50, k, generator=rng, dtype=torch.float64) for k in (6, 4))
    a, b = c.T @ c, c.T @ x
    found = update_atoms(torch.eye(6, 4), a, b, passes=500)
    by_gradients = torch.eye(6, 4, dtype=torch.float64)
    for _ in range(5000):
        by_gradients = by_gradients - (a @ by_gradients - b) / torch.linalg.matrix_norm(a, 2)
        by_gradients = by_gradients / by_gradients.norm(dim=1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(found, by_gradients, atol=1e-8, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), norm=st.sampled_from(["ball", "unit"]), positive=st.booleans())
def test_atoms_never_cost_more_and_keep_to_what_is_allowed(seed, norm, positive):
    rng = torch.Generator().manual_seed(seed)
    c, x, d = (torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((20, 6), (20, 4), (6, 4)))
    d = (d.abs() if positive else d) / d.norm(dim=1, keepdim=True)
    c[:, 2] = 0
    before = ((x - c @ d) ** 2).sum()
    for _ in range(4):
        new = update_atoms(d, c.T @ c, c.T @ x, norm=norm, positive=positive)
        after, length = ((x - c @ new) ** 2).sum(), new.norm(dim=1)
        assert after <= before * (1 + 1e-12)
        assert torch.equal(new[2], d[2])
        assert (length <= 1 + 1e-12).all()
        assert norm == "ball" or torch.allclose(length, torch.ones_like(length))
        assert not positive or (new >= 0).all()
        d, before = new, after


@pytest.mark.parametrize("options", [{}, {"positive_code": True}, {"atom_norm": "unit"}, {"l2": 0.5}])
def test_cost_never_rises_and_is_the_cost(options):
    x = data()
    learnt = DictionaryLearning(
        12, alpha=0.5, max_iter=30, random_state=0, transform_algorithm="lasso_cd", **options
    ).fit(x)
    assert (np.diff(learnt.error_) <= 1e-6 * learnt.error_[0]).all()
    codes, l2 = learnt.transform(x), options.get("l2", 0.0)
    cost = 0.5 * ((x - codes @ learnt.components_) ** 2).sum() + 0.5 * abs(codes).sum() + 0.5 * l2 * (codes**2).sum()
    assert learnt.error_[-1] == pytest.approx(cost, rel=1e-5)
    gap = duality_gap(
        *map(torch.as_tensor, (codes, x, learnt.components_)), 0.5, l2=l2, positive="positive_code" in options
    )
    assert gap.max() <= 1e-6
    assert learnt.gap_ <= 1e-6


@pytest.mark.parametrize("learner", LEARNERS)
def test_from_one_start_cost_is_no_higher_than_scikit_learns(learner):
    x = data(n=400)
    options = {"alpha": 0.5, "max_iter": 60, "random_state": 0, "transform_algorithm": "lasso_cd"}
    options["dict_init"] = np.random.default_rng(1).normal(size=(15, 10)) / 4
    # scikit-learn heeds the first atoms only where there are first codes as well
    options |= {"batch_size": 32} if learner is MiniBatchDictionaryLearning else {"code_init": np.zeros((400, 15))}
    costs = []
    for model in (learner(15, **options), getattr(peer, learner.__name__)(15, fit_algorithm="cd", **options)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codes = model.fit(x).transform(x)
        costs.append(0.5 * ((x - codes @ model.components_) ** 2).sum() + 0.5 * abs(codes).sum())
    assert costs[0] <= 1.02 * costs[1]


def test_a_weight_of_2_counts_as_two_samples():
    x = data(n=40)
    weights = np.random.default_rng(0).integers(0, 3, 40)
    options = {"alpha": 0.5, "max_iter": 10, "random_state": 0, "gap_tol": 1e-12}
    weighted = DictionaryLearning(8, **options).fit(x, sample_weight=weights)
    repeated = DictionaryLearning(8, **options).fit(np.repeat(x, weights, axis=0))
    np.testing.assert_allclose(weighted.components_, repeated.components_, atol=1e-7)


def test_dead_atoms_take_the_place_of_the_worst_coded_samples():
    x = data()
    first = np.zeros((12, 10))
    first[:, 0] = 1e-9
    with pytest.warns(UserWarning, match="all codes are zero"):
        learnt = DictionaryLearning(12, alpha=0.5, max_iter=2, dict_init=first).fit(x)
    rows = x[np.argsort(-(x**2).sum(1))[:12]]
    np.testing.assert_allclose(learnt.components_, rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_a_step_is_mairals():
    x, atoms = data(n=64), np.random.default_rng(1).normal(size=(12, 10))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    options = {"alpha": 0.3, "dict_init": atoms, "batch_size": 32}
    ours = MiniBatchDictionaryLearning(12, gap_tol=1e-12, **options)
    reference = peer.MiniBatchDictionaryLearning(12, fit_algorithm="cd", transform_max_iter=10_000, **options)
    for batch in (x[:32], x[32:]):
        ours.partial_fit(batch), reference.partial_fit(batch)
    np.testing.assert_allclose(ours.components_, reference.components_, atol=1e-5)
    assert ours.n_steps_ == 2


def test_a_loader_gives_what_the_array_gives():
    x = torch.from_numpy(data())
    atoms = x[:12] / x[:12].norm(dim=1, keepdim=True)
    options = {"alpha": 0.3, "batch_size": 30, "max_iter": 3, "dict_init": atoms, "shuffle": False}
    whole = MiniBatchDictionaryLearning(12, **options).fit(x)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=30)
    loaded = MiniBatchDictionaryLearning(12, **options).fit(loader)
    np.testing.assert_array_equal(whole.components_, loaded.components_)
    assert loaded.n_steps_ == 12


@pytest.mark.parametrize("learner", LEARNERS)
def test_interruption_keeps_the_best_so_far(learner, monkeypatch):
    calls = []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return update_atoms(*args, **options)

    monkeypatch.setattr("thalweg.coordinate.dictionary_learning.update_atoms", interrupted)
    with pytest.warns(UserWarning, match="interrupted: the best dictionary so far is kept"):
        learnt = learner(12, alpha=0.3, random_state=0).fit(data())
    assert np.isfinite(learnt.transform(data())).all()


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_callback_sees_how_it_goes_and_ends_it(learner):
    seen = []
    learnt = learner(12, alpha=0.3, random_state=0, callback=lambda now: seen.append(now) or len(seen) == 2).fit(data())
    assert [now["iteration"] for now in seen] == [1, 2]
    assert [now["cost"] for now in seen] == learnt.error_
    assert len(learnt.seconds_) == 2


@pytest.mark.parametrize("learner", LEARNERS)
def test_seed_gives_the_same_again_and_leaves_the_global_state(learner):
    x = data()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (learner(12, alpha=0.3, max_iter=3, random_state=5).fit(x).components_ for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002


def test_tensors_give_tensors_in_their_type():
    x = torch.from_numpy(data()).float()
    learnt = DictionaryLearning(12, alpha=0.3, max_iter=3, random_state=0).fit(x)
    codes = learnt.transform(x)
    assert isinstance(codes, torch.Tensor)
    assert codes.dtype == torch.float32
    assert learnt.inverse_transform(codes).shape == x.shape


def test_a_bar_shows_cost_and_gap(capsys):
    DictionaryLearning(12, alpha=0.3, max_iter=3, random_state=0, verbose=True).fit(data())
    shown = capsys.readouterr().out
    assert "cost" in shown
    assert "gap" in shown


@pytest.mark.filterwarnings("ignore:all codes are zero")
@pytest.mark.parametrize("x", [np.ones((5, 3)), np.zeros((5, 3)), np.ones((5, 1)), np.arange(12).reshape(4, 3)])
@pytest.mark.parametrize("learner", LEARNERS)
def test_degenerate_data_is_learnt_from(learner, x):
    learnt = learner(7, alpha=0.1, max_iter=5, random_state=0).fit(x)  # more atoms than samples
    assert np.isfinite(learnt.components_).all()
    assert np.isfinite(learnt.transform(x)).all()


def test_bad_input_is_refused():
    x = data()
    with pytest.raises(ValueError, match="choose among lasso_cd"):
        encode(torch.ones(1, 2), torch.ones(1, 2), "lassi")
    for name, value in {
        "atom_norm": "sphere",
        "alpha": -1.0,
        "alpha ": float("nan"),
        "n_components": 0,
        "l2": -1.0,
        "tol": -1.0,
        "transform_algorithm": "lassi",
        "transform_alpha": -1.0,
        "gap_tol": -1e-6,
        "max_iter": -1,
    }.items():
        for learner in LEARNERS:
            with pytest.raises(InvalidParameterError, match=f"The '{name.strip()}' parameter of {learner.__name__}"):
                learner(**{name.strip(): value}).fit(x)
    with pytest.raises(InvalidParameterError, match="The 'transform_alpha' parameter of SparseCoder"):
        SparseCoder(np.eye(10), transform_alpha=-1.0).transform(x)
    with pytest.raises(ValueError, match="dictionary contains NaN"):
        SparseCoder(np.full((2, 10), np.nan)).transform(x)
    with pytest.raises(ValueError, match="sample_weight.shape"):
        MiniBatchDictionaryLearning(3).partial_fit(x, sample_weight=np.ones(7))
    with pytest.raises(ValueError, match="dict_init"):
        DictionaryLearning(3, dict_init=np.ones((3, 4))).fit(x)
    with pytest.raises(ValueError, match="Positive constraint not supported for 'omp'"):
        SparseCoder(np.eye(10), positive_code=True).transform(x)
    with pytest.raises(ValueError, match="has no batches"):
        MiniBatchDictionaryLearning(3).fit(torch.utils.data.DataLoader(torch.ones(0, 3)))
    with pytest.raises(ValueError, match="contains NaN"):
        DictionaryLearning(3).fit(x * np.nan)
