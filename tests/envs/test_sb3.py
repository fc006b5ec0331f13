"""The engines for Stable-Baselines3, which is optional."""

import sys

import numpy as np
import pytest
import torch

from cmaml_pl import envs
from cmaml_pl.errors import UserError


def test_without_it_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "cmaml_pl.envs.sb3", raising=False)
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env", None)  # an import of it fails
    with pytest.raises(UserError, match=r"install it with `pip install 'stable-baselines3>=2\.9,<3'`"):
        _ = envs.make_sb3_vec


def test_a_step_is_that_of_the_vector_environment():
    pytest.importorskip("stable_baselines3")
    ours = envs.make_sb3_vec("SafetyHopperVelocity-v1", 4, max_episode_steps=20)
    own = envs.make_vec("SafetyHopperVelocity-v1", 4, max_episode_steps=20)
    ours.seed(3)
    np.testing.assert_array_equal(ours.reset(), own.reset(seed=3)[0])
    drawn = np.random.default_rng(0)
    falls = limits = 0
    for _ in range(60):
        actions = drawn.uniform(-1, 1, own.action_space.shape)
        observation, reward, done, infos = ours.step(actions)
        theirs, rewards, terminated, truncated, told = own.step(actions)
        np.testing.assert_array_equal(observation, theirs)
        np.testing.assert_array_equal(reward, rewards.astype(np.float32))
        np.testing.assert_array_equal(done, terminated | truncated)
        assert [info["cost"] for info in infos] == told["cost"].tolist()
        for world in np.flatnonzero(done):
            np.testing.assert_array_equal(infos[world]["terminal_observation"], told["final_observation"][world])
            assert infos[world]["TimeLimit.truncated"] == (truncated & ~terminated)[world]
            assert infos[world]["episode"]["l"] <= 20
        falls, limits = falls + terminated.sum(), limits + truncated.sum()
    assert falls
    assert limits
    ours.close()
    assert ours.unwrapped.env.closed


def test_ppo_trains_on_it():
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    env = envs.make_sb3_vec("SafetyPointGoal1-v0", 8, seed=0, max_episode_steps=50)
    with torch.random.fork_rng():  # Stable-Baselines3 seeds and draws from the global generator
        agent = stable_baselines3.PPO("MlpPolicy", env, n_steps=64, batch_size=128, n_epochs=1, seed=0)
        before = agent.policy.state_dict()["action_net.weight"].clone()
        agent.learn(1024)
    assert (agent.policy.state_dict()["action_net.weight"] != before).any()
    assert len(agent.ep_info_buffer) == 16
    assert {episode["l"] for episode in agent.ep_info_buffer} == {50}
