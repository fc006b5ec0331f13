"""The outer update."""

import dataclasses
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback
from tests.algorithm.fitting import TINY, fit

from cmaml_callbacks import SafetyCritic
from cmaml_pl.algorithm.data import MetaBatchSampler
from cmaml_pl.algorithm.record import penalised_return
from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.registry import OUTER_METHODS
from cmaml_pl.outer.fomaml import FOMAML


def fields(cls):
    return {item.name for item in dataclasses.fields(cls)}


class NoGradient(FOMAML):
    """An outer method that wants nothing, so that the safety term is all that acts."""

    def _gradients(self, actor, theta, goal, threads):
        return torch.zeros_like(goal.adapted)


def test_every_meta_iteration_draws_tasks_of_its_own_from_the_seed():
    config = load_experiment("nav2d", TINY)
    with open_module(config) as module:
        recorder = fit(module, config, iterations=3)
    for epoch, tasks in enumerate(recorder.tasks):
        sampler = MetaBatchSampler(config.tasks.train, 4, seed=0)
        sampler.set_epoch(epoch)
        assert tasks == list(sampler)
    assert len({tuple(tasks) for tasks in recorder.tasks}) == 3


def test_the_meta_step_is_adams_step_on_the_meta_gradient():
    config = load_experiment(
        "nav2d", [*TINY, "outer.lr=0.01", "outer.passes=1", "outer.log_std=true", "policy.context=0"]
    )
    with open_module(config) as module:
        recorder = fit(module, config, iterations=1)
    move = recorder.end - recorder.theta[0]
    # Adam's first step is lr times the sign of the gradient
    moved = move[move != 0]
    assert moved.abs().max() <= 0.01 * 1.001
    assert moved.abs().quantile(0.02) > 0.01 * 0.99  # all but the tiniest gradients, beside which Adam's epsilon counts
    assert len(moved) > 0.9 * len(move)


def test_the_first_weights_do_not_depend_on_the_threads_that_torch_has():
    vectors, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with open_module(load_experiment("nav2d", TINY)) as module:
                vectors.append(module.actor.vector())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*vectors)


@pytest.mark.parametrize(
    ("inner", "outer"), [("cpo", "fomaml"), *(("trpo_lag", name) for name in sorted(OUTER_METHODS))]
)
def test_the_number_of_threads_changes_no_bit(inner, outer):
    def train(workers):
        settings = [f"inner.method={inner}", f"outer.method={outer}", f"rollout.workers={workers}"]
        config = load_experiment("nav2d", [*TINY, "train.tasks_per_batch=5", *settings])
        with open_module(config) as module:
            assert module.threads.number == workers
            recorder = fit(module, config, iterations=2)
        return recorder.end

    assert torch.equal(train(1), train(8))  # more threads than tasks


def test_several_passes_are_several_steps():
    config = load_experiment("nav2d", [*TINY, "outer.lr=0.01", "outer.passes=3"])
    with open_module(config) as module:
        recorder = fit(module, config, iterations=1)
    largest = (recorder.end - recorder.theta[0]).abs().max()
    assert 0.02 < largest < 0.031


class Gradients(FOMAML):
    """First-order MAML that notes whose gradients it was asked for, and what they were."""

    def _gradients(self, actor, theta, goal, threads):
        gradients = super()._gradients(actor, theta, goal, threads)
        self.asked.append((goal.adapted, goal.weight, goal.post, gradients.mean(dim=0)))
        return gradients


def test_with_every_step_the_policies_of_all_steps_count_alike():
    config = load_experiment("nav2d", [*TINY, "inner.steps=2", "inner.multiplier_init=0.3", "outer.average=1"])
    with open_module(config) as module:
        module.outer = Gradients(every_step=True, passes=1)
        object.__setattr__(module.outer, "asked", [])
        recorder = fit(module, config, iterations=1)
        tasks = [config.tasks.task(i, cost_limit=config.inner.cost_limit) for i in recorder.tasks[0]]
        with open_module(config) as same:
            stages = same.adapt(tasks, 2, ("train", 0))
            weights = [same.inner.judge(same.actor, s.theta, s.multiplier, s.data)[1] for s in stages]
    last, *others = module.outer.asked
    for stage, weight, (adapted, given, data, _) in zip(stages, weights, [*others, last], strict=True):
        torch.testing.assert_close(adapted, stage.theta)
        torch.testing.assert_close(given, weight)
        torch.testing.assert_close(data.action, stage.data.action)
    mean = torch.stack([gradient for *_, gradient in module.outer.asked]).mean(dim=0)
    assert recorder.metrics[0]["outer/gradient_norm"] == pytest.approx(mean.norm().item(), rel=1e-5)


def costly_log_prob(module, pre):
    """Mean log-probability that the current policy gives to the actions that cost more than others."""
    data = pre.data
    loc, scale = module.actor.stacked(module.actor.vector().expand(len(data.action), -1), data.features)
    log_prob = torch.distributions.Normal(loc, scale).log_prob(data.action).sum(-1)
    return log_prob[module.estimator.safety_advantage(pre.rollout) > 0].mean()


@pytest.mark.parametrize(("eta", "moves"), [(5.0, True), (0.0, False)])
def test_the_safety_term_makes_costly_actions_rarer_and_eta_zero_turns_it_off(eta, moves):
    config = load_experiment("nav2d", [*TINY, f"safety.eta={eta}", "inner.cost_limit=0"])
    config = replace(config, outer=NoGradient(lr=1e-3))
    with open_module(config) as module:
        module.actor.normaliser.update = lambda *_: None  # so that before and after see the same states
        tasks = build_datamodule(config).splits["train"][:4]
        pre = module.adapt(tasks, 1, ("test",))[0]
        critic = SafetyCritic(lr=1e-2, passes=50, minibatch=128)
        critic.on_fit_start(None, module)
        critic.fit(module, pre.rollout, iteration=0)
        recorder = fit(module, config, iterations=1)
        after = costly_log_prob(module, pre)
        module.actor.load_vector(recorder.theta[0])
        before = costly_log_prob(module, pre)
    assert (after < before - 1e-4) == moves
    assert torch.equal(recorder.end, recorder.theta[0]) != moves


def test_the_penalised_return_of_a_validation_is_that_of_all_its_tasks():
    def batch(tasks, cost):
        return tasks, {"post/return": torch.tensor(1.0), "post/cost": torch.tensor(cost)}, torch.tensor(10.0)

    assert penalised_return(batch(2, 12.0), batch(2, 6.0)) == 1.0  # 9 on average
    assert penalised_return(batch(2, 15.0), batch(1, 6.0)) == -1.0  # 12
    assert penalised_return(batch(2, 15.0)) == -4.0


def test_what_the_critic_is_said_to_predict_is_what_eta_follows():
    informed = ["policy.context=2", "exploration.std=1", "exploration.informed=0.5"]
    config, seen = load_experiment("nav2d", [*TINY, *informed]), []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            record = outputs["iteration"]
            seen.append([float(pl_module.predicted_episode_cost(x)) for x in (record.pre.rollout, record.rollout)])

    with open_module(config) as module:
        critic = SafetyCritic(lr=1e-2, passes=5, minibatch=128)
        recorder = fit(module, config, iterations=1, callbacks=[critic, Watch()])
    assert recorder.metrics[0]["safety_critic/episode_cost"] == seen[0][0] != seen[0][1]


def test_in_the_dead_band_the_safety_term_rests():
    config = load_experiment("nav2d", [*TINY, "safety.eta=1.0", "safety.dead_band=true"])
    with open_module(config) as module:
        tasks = build_datamodule(config).splits["train"][:4]
        data = module.adapt(tasks, 1, ("test",))[0].data
        over = replace(data, episode_cost=torch.full((4,), 3.5), cost_limit=torch.full((4,), 3.0))
        within = replace(data, episode_cost=torch.full((4,), 3.0), cost_limit=torch.full((4,), 3.0))
        assert module.safety_weight(over) == 0.5
        assert module.safety_weight(within) == 0.0
        module.safety_margin = 0.9
        assert module.safety_weight(within) == 0.5
        assert module.safety_weight(replace(within, episode_cost=torch.full((4,), 2.6))) == 0.0


@pytest.mark.parametrize("average", [1, 2, 3])
def test_the_policy_that_is_deployed_is_a_running_mean(average):
    config = load_experiment("nav2d", [*TINY, f"outer.average={average}"])
    with open_module(config) as module:
        recorder = fit(module, config, iterations=4)
        _, first, second, third = recorder.theta
        fourth = recorder.end
        expected = {
            1: fourth,
            2: first / 8 + second / 8 + third / 4 + fourth / 2,
            3: (first + second + third) * 2 / 9 + fourth / 3,
        }[average]
        torch.testing.assert_close(module.deployed, expected, rtol=0, atol=0 if average == 1 else 1e-6)
        tasks = build_datamodule(config).splits["train"][:4]
        (stage,) = module.adapt(tasks, 0, ("test",))
        assert torch.equal(stage.theta, module.deployed.expand(4, -1))


def test_adapting_leaves_the_meta_policy_alone_and_lambda_carries_a_share():
    config = load_experiment(
        "nav2d", [*TINY, "inner.cost_limit=0", "inner.multiplier_carry=0.25", "inner.multiplier_lr=1"]
    )
    with open_module(config) as module:
        tasks = build_datamodule(config).splits["train"][:4]
        before = module.actor.vector()
        stages = module.adapt(tasks, 2, ("test",))
        assert len(stages) == 3
        assert (stages[0].data.episode_steps == 30).all()
        assert torch.equal(module.actor.vector(), before)
        assert torch.equal(stages[0].theta, before.expand(4, -1))
        assert not torch.equal(stages[1].theta[0], stages[1].theta[1])
        start = float(module.multiplier)
        recorder = fit(module, config, iterations=1)
        ended = recorder.metrics[0]["lambda/mean"]
        assert ended > start
        assert float(module.multiplier) == pytest.approx(start + 0.25 * (ended - start), rel=1e-5)
