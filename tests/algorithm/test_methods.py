"""What every inner and outer method does with the module, and what some of them do."""

from dataclasses import replace

import pytest
import torch
from tests.algorithm.fitting import TINY, fit

from cmaml_callbacks import Eta
from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.registry import INNER_METHODS, OUTER_METHODS
from cmaml_pl.evaluation.rows import stage_rows
from cmaml_pl.inner.linearised import cost_excess
from cmaml_pl.outer.base import MetaLearner
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.outer.pooled import PooledSteps
from cmaml_pl.task import Task


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
