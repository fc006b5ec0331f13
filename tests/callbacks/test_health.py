"""The failure signs: each is seen where it is, and not where it is not."""

import logging
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import WandbLogger
from tensordict import TensorDict
from tests.algorithm.fitting import TINY, fit
from tests.helpers import let_predict

from cmaml_callbacks import Health
from cmaml_pl.assembly import open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.distributed.ranks import Ranks

LIMIT = 3.0
STEPS = 20


class Module:
    """As much of a CMAML as the callback looks at."""

    def __init__(self):
        self.predicted, self.safety_margin = 0.0, 1.0
        self.ranks, self.estimator = Ranks(), SimpleNamespace(limit_discount=1.0)

    def roll(self, costs, *, limit=LIMIT):
        """The meta-policy in an iteration whose episodes cost `costs`, at most STEPS each."""
        costs = torch.as_tensor(costs, dtype=torch.float32)
        cost = (torch.arange(STEPS) < costs[:, None]).float()[None, :, :, None]
        done = torch.zeros_like(cost, dtype=torch.bool)
        done[:, :, -1] = True
        data = SimpleNamespace(episode_cost=costs.mean()[None], cost_limit=torch.tensor([limit]))
        return SimpleNamespace(rollout=TensorDict({"next": {"cost": cost, "done": done}}, cost.shape[:3]), data=data)

    def predicted_episode_cost(self, rollout):
        return torch.tensor(self.predicted)


def run(callback, iterations, *, costs=(0, 1), predicted=0.0, returns=0.0, post_cost=0.0, limit=LIMIT, margin=1.0):
    """The signs of each of some meta-iterations; what is callable is a function of the iteration."""
    module, found = Module(), []
    module.safety_margin = margin

    def at(value, i):
        return value(i) if callable(value) else value

    for i in range(iterations):
        pre = module.roll(at(costs, i), limit=limit)
        module.predicted = at(predicted, i)
        found.append(callback.observe(module, pre, post_return=at(returns, i), post_cost=at(post_cost, i)))
    return found


def iterations_with(sign, found):
    return [i for i, signs in enumerate(found) if sign in signs]


def rising(i):
    return [0, 4] if i < 10 else [0, 16]


def test_a_rising_variance_of_episode_costs_is_seen_and_clears_when_it_has_settled():
    found = run(Health(), 40, costs=rising)
    seen = iterations_with("rising variance", found)
    assert seen
    assert 10 <= seen[0] <= 20
    assert seen[-1] < 30
    assert "from" in found[seen[0]]["rising variance"]


@pytest.mark.parametrize(
    "costs",
    [
        lambda i: [0, 8 + i % 3],  # large, but steady
        lambda i: [0, 1] if i < 10 else [0, 4],  # rises within the size of the limit
        lambda i: rising(39 - i),  # falls
        lambda i: [i, i],  # the mean rises, the episodes are alike
    ],
)
def test_other_costs_are_no_rising_variance(costs):
    assert not iterations_with("rising variance", run(Health(), 40, costs=costs))


def test_without_a_limit_no_cost_is_a_sign():
    found = run(Health(), 40, costs=rising, limit=float("inf"), returns=float)
    assert not any(found)


def test_a_violation_that_the_critic_does_not_see_is_a_sign_after_long():
    found = run(Health(), 20, costs=[4, 4], predicted=2.5)
    assert iterations_with("unseen violation", found) == list(range(9, 20))
    assert "2.5" in found[9]["unseen violation"]


@pytest.mark.parametrize(
    ("costs", "predicted"),
    [
        ([4, 4], 3.1),  # the critic sees it
        ([3, 3], 0.0),  # at the limit
        ([4, 4], lambda i: 5.0 if i % 9 == 8 else 2.0),  # not for long
    ],
)
def test_other_violations_are_not_unseen(costs, predicted):
    assert not iterations_with("unseen violation", run(Health(), 30, costs=costs, predicted=predicted))


def test_a_violation_is_not_unseen_where_eta_rises_or_does_not_follow_the_critic():
    unseen = {"costs": [4, 4], "predicted": 2.5}
    assert iterations_with("unseen violation", run(Health(), 20, **unseen, margin=0.9))
    assert not iterations_with("unseen violation", run(Health(), 20, **unseen, margin=0.8))  # 2.5 > 2.4: it rises
    assert not iterations_with("unseen violation", run(Health(eta_follows_critic=False), 20, **unseen))


def test_a_cost_at_a_limit_of_zero_can_be_unseen():
    assert run(Health(), 10, costs=[0, 1], predicted=-0.1, limit=0.0)[-1].keys() == {"unseen violation"}


def noisy(i):
    return (-1) ** i * 0.1


def test_a_return_that_stays_or_falls_is_no_progress():
    assert iterations_with("no progress", run(Health(), 60, returns=noisy)) == list(range(49, 60))
    assert iterations_with("no progress", run(Health(), 60, returns=lambda i: -i))


def test_progress_is_a_higher_return_or_a_cost_that_comes_down_from_over_the_limit():
    assert not any(run(Health(), 60, returns=lambda i: noisy(i) + 0.02 * i))
    assert not any(run(Health(), 60, returns=lambda i: noisy(i) + min(i, 30)))  # risen, then level
    assert not any(run(Health(), 60, post_cost=lambda i: 20 - i / 4))
    assert any(run(Health(), 60, post_cost=lambda i: 2 - i / 100))  # it was within the limit


def test_progress_that_comes_late_clears_the_sign():
    found = run(Health(), 90, returns=lambda i: noisy(i) + (5.0 if i >= 55 else 0.0))
    assert iterations_with("no progress", found)[0] == 49
    assert iterations_with("no progress", found)[-1] < 65


def test_a_sign_is_told_once_until_it_has_been_away_for_a_window():
    callback, module, told = Health(window=3, grace=6), Module(), []
    for i in range(30):
        signs = {"no progress": "..."} if i < 10 or i == 12 or i >= 20 else {}
        callback.observe(module, module.roll([0, 1]), post_return=0.0, post_cost=0.0)
        told += [(i, sign) for sign in callback.new(signs)]
    assert told == [(0, "no progress"), (20, "no progress")]


def test_a_warning_goes_to_the_log_and_to_wandb_where_it_is(caplog):
    class Experiment:
        def __init__(self):
            self.alerts = []

        def alert(self, **arguments):
            self.alerts.append(arguments)

    class Logger(WandbLogger):
        def __init__(self):
            self._told = Experiment()

        @property
        def experiment(self):
            return self._told

    logger = Logger()
    callback = Health()
    for loggers in ([], [logger]):
        trainer = SimpleNamespace(loggers=loggers, is_global_zero=True, current_epoch=6)
        with caplog.at_level(logging.WARNING):
            callback.warn(trainer, "no progress", "it stands still")
    assert [record.getMessage() for record in caplog.records] == ["Meta-iteration 7, no progress: it stands still"] * 2
    (alert,) = logger.experiment.alerts
    assert alert["title"] == "cmaml_pl: no progress"
    assert alert["text"] == "it stands still"


def test_a_resumed_callback_sees_what_the_whole_one_does():
    module = Module()

    def step(callback, i):
        pre = module.roll(rising(i))
        signs = callback.observe(module, pre, post_return=0.0, post_cost=0.0)
        return signs, callback.new(signs)

    whole, first = Health(), Health()
    expected = [step(whole, i) for i in range(30)]
    for i in range(12):
        step(first, i)
    second = Health()
    second.load_state_dict(first.state_dict())
    step(first, 12)  # what it does later is not the checkpoint's
    assert [step(second, i) for i in range(12, 30)] == expected[12:]


def test_in_a_run_it_logs_and_warns(caplog):
    config = load_experiment("nav2d", [*TINY, "inner.cost_limit=0"])
    with open_module(config) as module:
        let_predict(module, -1.0, steps=30)
        recorder = fit(module, config, iterations=4, callbacks=[Health(window=2, patience=2, grace=4)])
    assert [metrics["health/signs"] >= 1 for metrics in recorder.metrics] == [False, True, True, True]
    assert all(metrics["health/cost_variance"] > 0 for metrics in recorder.metrics)
    assert sum("unseen violation" in record.getMessage() for record in caplog.records) == 1


def test_it_refuses_what_it_cannot_serve():
    with pytest.raises(TypeError, match="serves a cmaml_pl"):
        Health().on_fit_start(SimpleNamespace(), LightningModule())
    with pytest.raises(ValueError, match="window"):
        Health(window=1)
    with pytest.raises(ValueError, match="grace is 15"):
        Health(grace=15)
