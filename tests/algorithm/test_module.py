"""The outer update."""

import dataclasses
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from cmaml_callbacks import Eta, SafetyCritic
from cmaml_pl.algorithm.data import MetaBatchSampler
from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.registry import INNER_METHODS, OUTER_METHODS
from cmaml_pl.evaluation.rows import stage_rows
from cmaml_pl.inner.linearised import cost_excess
from cmaml_pl.outer.base import MetaLearner
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.outer.pooled import PooledSteps
from cmaml_pl.task import Task

TINY = [
    "train.tasks_per_batch=4",
    "rollout.envs_per_task=8",
    "rollout.horizon=30",
    "inner.steps=1",
    "critic.passes=1",
    "safety.dead_band=false",
    "logger.wandb=disabled",
]


class Recorder(Callback):
    """What each meta-iteration saw and did."""

    def __init__(self):
        self.tasks, self.theta, self.metrics = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.tasks.append([task.id for task in batch])
        self.theta.append(pl_module.actor.vector())

    def on_train_epoch_end(self, trainer, pl_module):
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.end = pl_module.actor.vector()


def fit(module, config, *, iterations, callbacks=()):
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=iterations,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[recorder, *callbacks],
    )
    trainer.fit(module, build_datamodule(config))
    return recorder


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


@pytest.mark.parametrize("name", sorted(INNER_METHODS))
def test_every_inner_method_trains_and_carries_what_it_says(name):
    # a limit of 0, so that the multipliers have work
    config = load_experiment("nav2d", [*TINY, f"inner.method={name}", "inner.cost_limit=0"])
    with open_module(config) as module:
        recorder = fit(module, config, iterations=2)
        metrics = recorder.metrics[-1]
        assert all(torch.tensor(value).isfinite() for value in metrics.values())
        assert metrics["inner/kl"] > 0
        assert 0 <= metrics["inner/infeasible_steps"] <= 1
        assert (metrics["lambda/mean"] > 0) == (name != "trpo")
        carries = config.inner.multiplier_carry > 0
        assert (float(module.multiplier) != pytest.approx(config.inner.multiplier_init)) == carries


@pytest.mark.parametrize("name", sorted(INNER_METHODS))
def test_without_a_limit_every_inner_method_trains_and_lambda_is_zero(name):
    """But for P3O, whose multiplier, kappa, weighs only what exceeds the limit; it falls."""
    config = load_experiment("nav2d", [*TINY, f"inner.method={name}", "inner.cost_limit=inf"])
    with open_module(config) as module:
        recorder = fit(module, config, iterations=2, callbacks=[Eta(lr=0.1, high=2.0)])
    for metrics in recorder.metrics:
        assert all(torch.tensor(value).isfinite() for value in metrics.values())
        assert metrics["inner/kl"] > 0
        assert metrics["eta"] == metrics["post/violation_rate"] == 0
        assert metrics["lambda/mean"] == 0 or name == "p3o"
        assert metrics["lambda/mean"] <= config.inner.multiplier_init


@pytest.mark.parametrize("name", sorted(OUTER_METHODS))
def test_what_every_outer_method_does_without_a_limit_is_told_by_its_divergence(name):
    config = load_experiment("nav2d", [*TINY, f"outer.method={name}"])
    with open_module(config) as module:
        recorder = fit(module, config, iterations=1)
    assert recorder.metrics[0]["outer/kl"] > 0
    assert recorder.metrics[0]["outer/step_share"] == 1.0


@pytest.mark.parametrize("name", [name for name, outer in OUTER_METHODS.items() if issubclass(outer, MetaLearner)])
def test_the_meta_step_stays_in_the_trust_region_that_is_asked_for(name):
    tiny = [*TINY, f"outer.method={name}", "outer.lr=0.01"]
    config, limited = load_experiment("nav2d", tiny), load_experiment("nav2d", [*tiny, "outer.max_kl=1e-4"])
    with open_module(config) as module:
        free = fit(module, config, iterations=2)
    with open_module(limited) as module:
        held = fit(module, limited, iterations=2)
    for metrics in free.metrics:
        assert metrics["outer/kl"] > 1e-4, "nothing to limit"
    for metrics in held.metrics:
        assert 0 < metrics["outer/kl"] <= 1e-4
        assert 0 < metrics["outer/step_share"] < 1.0
    # the same proposal, shortened
    proposed, taken = free.theta[1] - free.theta[0], held.theta[1] - held.theta[0]
    torch.testing.assert_close(taken, proposed * held.metrics[0]["outer/step_share"], rtol=1e-3, atol=1e-6)


def test_reptile_moves_the_meta_policy_toward_the_mean_of_the_adapted_ones():
    config = load_experiment("nav2d", [*TINY, "outer.method=reptile", "outer.lr=1e-4", "outer.log_std=true"])
    with open_module(config) as module:
        tasks = next(iter(build_datamodule(config).train_dataloader()))
        adapted = module.adapt(tasks, 1, ("train", 0))[-1].theta
        recorder = fit(module, config, iterations=1)
    wanted, moved = adapted.mean(dim=0) - recorder.theta[0], recorder.end - recorder.theta[0]
    # Adam's first step is lr times the sign of g, wherever its epsilon is small beside g
    clear = wanted.abs() > 1e-5
    assert clear.sum() > 1000
    assert torch.equal(moved[clear].sign(), wanted[clear].sign())


def test_pretraining_takes_a_pooled_step_after_each_of_the_k_plus_one_rollouts():
    config = load_experiment(
        "nav2d", [*TINY, "arm=pretrain", "inner.steps=2", "inner.cost_limit=0", "outer.log_std=true"]
    )
    with open_module(config) as module:
        tasks, pooled = next(iter(build_datamodule(config).train_dataloader())), PooledSteps.of(module.inner)
        stages = module.adapt(tasks, 2, ("train", 0), inner=pooled)
        end = pooled.step(module.actor, stages[-1].theta, stages[-1].multiplier, stages[-1].data)
        recorder = fit(module, config, iterations=1)
        assert float(module.multiplier) == pytest.approx(float(end.multiplier[0]), rel=1e-6)
    assert recorder.tasks == [[task.id for task in tasks]]
    torch.testing.assert_close(recorder.end, end.theta[0], rtol=1e-5, atol=1e-6)
    assert module.env_steps == 3 * 4 * 8 * 30
    assert recorder.metrics[0]["lambda/mean"] > config.inner.multiplier_init
    assert recorder.metrics[0]["outer/kl"] > config.inner.trust_region.max_kl  # three steps of one policy


def test_pretraining_has_no_safety_term_and_no_eta():
    config = load_experiment("nav2d", [*TINY, "outer.method=pooled", "safety.eta=1.0", "safety.eta_lr=0.1"])
    with open_module(config) as module:
        assert module.eta == 0.0


def test_a_pretrained_policy_adapts_to_each_task_as_any_other():
    config = load_experiment("nav2d", [*TINY, "arm=pretrain"])
    with open_module(config) as module:
        theta = module.adapt(build_datamodule(config).splits["validation"][:3], 1, ("test",))[-1].theta
    assert not torch.equal(theta[0], theta[1])


def test_a_fixed_penalty_is_the_same_in_every_step_for_every_task_and_in_the_outer_loss():
    seen = []

    class Attentive(FOMAML):
        def _gradients(self, actor, theta, goal, threads):
            seen.append(goal.weight)
            return super()._gradients(actor, theta, goal, threads)

    config = load_experiment(
        "nav2d", [*TINY, "arm=maml_penalty", "outer.passes=1", "inner.multiplier_init=0.3", "inner.cost_limit=0"]
    )
    config = replace(config, outer=Attentive(**vars(config.outer)))
    with open_module(config) as module:
        fit(module, config, iterations=3)
        assert module.eta == 0.0
        assert module.multiplier == torch.tensor(0.3)
        stages = module.adapt(build_datamodule(config).splits["test"][:4], 2, ("test",))
    assert stages[0].data.episode_cost.max() > 0, "lambda had no reason to move"
    assert len(seen) == 3
    for multiplier in [*seen, *(stage.multiplier for stage in stages)]:
        assert torch.equal(multiplier, torch.full((4,), 0.3))


def test_without_a_shared_reward_critic_there_is_no_network_to_save_and_training_goes_on():
    config = load_experiment("nav2d", [*TINY, "critic.shared_reward=false"])
    with open_module(config) as module:
        recorder = fit(module, config, iterations=2)
        assert not [name for name in module.state_dict() if "reward_critic" in name]
    assert recorder.metrics[-1]["inner/kl"] > 0


def test_a_limit_on_the_discounted_cost_is_the_unit_of_all_that_is_compared_with_it():
    """J_C, what V_C predicts, CPO's excess and the reports; a task's episodes cost 0.1 |a|^2 in each step."""
    config = load_experiment("half_cheetah_velocity", [*TINY, "inner.cost_limit=2", "inner.cost_limit_discount=0.9"])
    with open_module(config) as module:
        (stage,) = module.adapt(build_datamodule(config).splits["train"][:4], 0, ("test",))
        steps = 0.9 ** torch.arange(30.0)
        cost = 0.1 * stage.rollout["action"].square().sum(dim=-1)
        episodes = (cost * steps).sum(dim=-1)
        torch.testing.assert_close(stage.data.episode_cost, episodes.mean(dim=1))
        expected = (episodes.mean(dim=1) - 2.0) / (steps.sum() * stage.data.cost_scale)
        torch.testing.assert_close(cost_excess(stage.data), expected)
        tasks, nothing = [Task("x", i, 0, 2.0) for i in range(4)], torch.zeros(4)
        rows = stage_rows(tasks, stage, step=0, seed=0, discount=0.9, predicted=nothing)
        assert [row["max_cost"] for row in rows] == pytest.approx(episodes.amax(dim=1).tolist())
        # a critic that knows the cost of a state's rest of the episode, discounted by its own gamma of 0.99
        left = 0.99 ** (torch.arange(30) - torch.arange(30)[:, None]).clamp_min(0) * torch.ones(30, 30).triu()
        module.safety_critic.forward = lambda features: left @ cost[..., None]
        torch.testing.assert_close(module.predicted_episode_costs(stage.rollout), stage.data.episode_cost)
        torch.testing.assert_close(module.predicted_episode_cost(stage.rollout), stage.data.episode_cost.mean())
