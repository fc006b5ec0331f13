import math
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule
from tests.helpers import let_predict

from cmaml_callbacks import Eta, MetricsCSV, RewardCritic, SafetyCritic, WandbMetrics
from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_callbacks.progress import describe
from cmaml_pl.assembly import build_datamodule, build_trainer, open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.critics.estimation import cost_to_go
from cmaml_pl.critics.fitting import explained_variance
from cmaml_pl.nets.networks import NoValue
from cmaml_pl.runs.folder import RunFolder

TINY = ["train.tasks_per_batch=3", "rollout.envs_per_task=4", "rollout.horizon=40", "inner.steps=1"]


@pytest.fixture
def module():
    with open_module(load_experiment("nav2d", TINY)) as module:
        yield module


@pytest.fixture
def pre(module):
    """The meta-policy on three tasks."""
    tasks = build_datamodule(load_experiment("nav2d", TINY)).splits["train"][:3]
    return module.adapt(tasks, 1, ("test",))[0]


@pytest.mark.parametrize(("predicted", "direction"), [(50.0, 1), (0.0, -1)])
def test_eta_rises_over_and_falls_under_the_limit_and_never_below_zero(module, pre, predicted, direction):
    let_predict(module, predicted, steps=40)
    callback = Eta(lr=0.01, high=2.0)
    module.eta.fill_(0.5)
    values = []
    for _ in range(60):
        callback.update(module, pre)
        values.append(float(module.eta))
    assert math.copysign(1, values[0] - 0.5) == direction
    assert values[0] == pytest.approx(0.5 + 0.01 * (predicted - 3.0), rel=1e-5)
    assert min(values) >= 0.0
    assert max(values) <= 2.0
    assert values[-1] == (2.0 if direction > 0 else 0.0)


def test_without_the_critic_eta_follows_the_measured_cost_and_a_c_is_the_cost_that_follows(pre):
    settings = load_experiment("nav2d", [*TINY, "safety.critic=false"])
    with open_module(settings) as module:
        let_predict(module, 50.0, steps=40)  # which it does not ask
        module.eta.fill_(0.5)
        Eta(lr=0.01, high=2.0, predicted=False).update(module, pre)
        measured = float(pre.data.episode_cost.mean())
        assert float(module.eta) == pytest.approx(0.5 + 0.01 * (measured - 3.0), rel=1e-5)
        module.safety_margin = 0.5
        Eta(lr=0.01, high=2.0, predicted=False).update(module, pre)
        assert float(module.eta) == pytest.approx(0.5 + 0.01 * (2 * measured - 4.5), rel=1e-5)
        cost = pre.rollout["next", "cost"]
        assert cost.sum() > 0
        time = torch.arange(cost.shape[2])
        discounts = (0.99 ** (time - time[:, None]).clamp_min(0)).triu()  # (time, time): a cost t steps later
        expected = (discounts @ cost).flatten(1)  # an episode is the whole rollout
        torch.testing.assert_close(module.estimator.safety_advantage(pre.rollout), expected)


@pytest.mark.parametrize("critic", [True, False])
def test_assembly_gives_the_callback_and_the_estimator_the_same_cost(critic, tmp_path):
    config = load_experiment("nav2d", [*TINY, f"safety.critic={critic}", "logger.wandb=disabled"])
    (eta,) = [each for each in build_trainer(config, RunFolder(tmp_path)).callbacks if isinstance(each, Eta)]
    with open_module(config) as module:
        assert eta.predicted == module.estimator.safety_by_critic == critic


def test_eta_is_kept_by_its_callback(module, pre):
    callback = Eta(lr=0.01, high=2.0)
    callback.update(module, pre)
    module.eta.fill_(1.25)
    callback.update(module, pre)
    kept = callback.state_dict()
    other = Eta(lr=0.01, high=2.0)
    other.load_state_dict(kept)
    expected = float(module.eta)
    module.eta.fill_(0.0)
    other.on_fit_start(SimpleNamespace(), module)
    assert float(module.eta) == expected


def test_the_safety_critic_learns_the_cost_to_go(module, pre):
    callback = SafetyCritic(lr=1e-2, passes=80, minibatch=64)
    callback.on_fit_start(SimpleNamespace(), module)
    states = module.estimator.cost_transitions(pre.rollout)
    target = cost_to_go(states, pre.rollout["next", "cost"], gamma=0.99)
    assert target.std() > 0, "nothing to learn"
    before = explained_variance(module.safety_critic, states.features, target)
    metrics = callback.fit(module, pre.rollout, iteration=0)
    assert metrics["explained_variance"] == before  # measured on data that it had not seen
    assert explained_variance(module.safety_critic, states.features, target) > 0.4 > before


def test_the_reward_critic_learns_from_its_own_rollouts_what_they_have_in_common(module, pre):
    callback = RewardCritic(lr=1e-2, passes=40, minibatch=64)
    callback.on_fit_start(SimpleNamespace(), module)
    first, second = (callback.fit(module, pre.rollout, iteration=i) for i in range(2))
    assert second["loss"] < first["loss"]
    assert second["explained_variance"] > first["explained_variance"]


def test_the_reward_critics_callback_refuses_a_module_whose_tasks_share_none(module):
    module.reward_critic = NoValue()
    with pytest.raises(TypeError, match="share a reward critic"):
        RewardCritic(lr=1e-2, passes=1, minibatch=64).on_fit_start(SimpleNamespace(), module)


@pytest.mark.parametrize(("kind", "critic"), [(SafetyCritic, "safety_critic"), (RewardCritic, "reward_critic")])
def test_a_critics_optimiser_goes_on_where_it_was(module, pre, kind, critic):
    network = getattr(module, critic)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    whole = kind(lr=1e-2, passes=2, minibatch=64)
    whole.on_fit_start(SimpleNamespace(), module)
    for i in range(2):
        whole.fit(module, pre.rollout, iteration=i)
    expected = {name: value.clone() for name, value in network.state_dict().items()}

    network.load_state_dict(start)
    first = kind(lr=1e-2, passes=2, minibatch=64)
    first.on_fit_start(SimpleNamespace(), module)
    first.fit(module, pre.rollout, iteration=0)
    second = kind(lr=1e-2, passes=2, minibatch=64)
    second.load_state_dict(first.state_dict())
    second.on_fit_start(SimpleNamespace(), module)
    second.fit(module, pre.rollout, iteration=1)
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected[name])


def test_predicted_cost_is_in_the_units_of_the_limit(module, pre):
    """A critic that says the same everywhere, of 40 steps and gamma 0.99: the formula is in the helper."""
    let_predict(module, 7.0, steps=40)
    assert float(module.predicted_episode_cost(pre.rollout)) == pytest.approx(7.0, rel=1e-5)


@pytest.mark.parametrize(
    "callback",
    [
        Eta(lr=0.1, high=1.0),
        RewardCritic(lr=0.1, passes=1, minibatch=8),
        SafetyCritic(lr=0.1, passes=1, minibatch=8),
    ],
    ids=lambda c: type(c).__name__,
)
def test_a_callback_refuses_a_module_that_it_cannot_serve(callback):
    with pytest.raises(TypeError, match="serves a cmaml_pl"):
        callback.on_fit_start(SimpleNamespace(), LightningModule())


def test_callbacks_refuse_impossible_arguments():
    with pytest.raises(ValueError, match="negative"):
        Eta(lr=-0.1, high=1.0)
    for kind in (RewardCritic, SafetyCritic):
        with pytest.raises(ValueError, match="passes"):
            kind(lr=0.1, passes=0, minibatch=8)


def trainer_at(epoch, **metrics):
    return SimpleNamespace(
        current_epoch=epoch, callback_metrics={k: torch.tensor(v) for k, v in metrics.items()}, is_global_zero=True
    )


def test_metrics_csv_has_a_line_an_iteration_and_validation_where_it_was(tmp_path):
    callback = MetricsCSV(tmp_path / "metrics.csv")
    callback.on_train_epoch_end(trainer_at(0, **{"post/return": 1.0}), None)
    callback.on_validation_end(None, None)
    callback.on_train_epoch_end(trainer_at(1, **{"post/return": 2.0, "val/post/return": 3.0}), None)
    callback.on_train_epoch_end(trainer_at(2, **{"post/return": 4.0, "val/post/return": 3.0}), None)
    assert read_metrics(tmp_path / "metrics.csv") == [
        {"iteration": 1.0, "post/return": 1.0},
        {"iteration": 2.0, "post/return": 2.0, "val/post/return": 3.0},
        {"iteration": 3.0, "post/return": 4.0},
    ]


def test_a_resumed_metrics_csv_drops_what_came_after_the_checkpoint(tmp_path):
    first = MetricsCSV(tmp_path / "metrics.csv")
    for epoch in range(4):
        first.on_train_epoch_end(trainer_at(epoch, x=float(epoch)), None)
    second = MetricsCSV(tmp_path / "metrics.csv")
    second.on_train_start(trainer_at(2), None)  # the checkpoint had done two iterations
    second.on_train_epoch_end(trainer_at(2, x=20.0), None)
    assert [line["x"] for line in read_metrics(tmp_path / "metrics.csv")] == [0.0, 1.0, 20.0]


def test_the_progress_line_shows_return_cost_eta_and_speed():
    line = describe(
        {"post/return": 1.234, "pre/cost": 9.0, "post/cost": 4.0, "eta": 0.5, "throughput/env_steps_per_s": 12345.0}
    )
    assert line == "return 1.23  cost 9.0 -> 4.0  eta 0.50  steps/s 12,345"
    assert describe({}) == ""


def test_wandb_metrics_keeps_the_id_of_its_run(tmp_path):
    callback = WandbMetrics(tmp_path / "learning_curves.png")
    callback.load_state_dict({"run_id": "nav2d-7"})
    assert callback.state_dict() == {"run_id": "nav2d-7"}
    with pytest.raises(TypeError, match="WandbLogger"):
        callback.on_fit_start(SimpleNamespace(loggers=[]), None)
