"""PPO-Lagrangian in one file, on the engine alone: PPO with a multiplier that rises while episodes cost too much.

python examples/ppo_lagrangian.py --env-id SafetyPointGoal1-v0 --total-steps 1000000

Ray et al. 2019 describe the algorithm. It maximises E[A_r - lambda A_c] / (1 + lambda), clipped as in PPO (Schulman et
al. 2017), where the advantages A_r of reward and A_c of cost come from a critic each. With --cost-limit none it is PPO.
It needs PyTorch, and the engine's own distribution or the trainer's.
"""

import argparse
import math
import time
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal

try:
    from cmaml_engine import make_vec
except ModuleNotFoundError:  # the same code comes with the trainer
    from cmaml_pl.envs import make_vec


@dataclass
class Args:
    """The settings; PPO's are CleanRL's for continuous actions (ppo_continuous_action.py)."""

    env_id: str = "SafetyPointGoal1-v0"
    seed: int = 1
    total_steps: int = 1_000_000
    num_envs: int = 64
    num_steps: int = 250  # of each world between two updates; a quarter of an episode
    episode_steps: int = 0  # 0 for the id's own number
    learning_rate: float = 3e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    minibatches: int = 32
    epochs: int = 10
    clip: float = 0.2
    max_grad_norm: float = 0.5
    cost_limit: float = 25.0  # of an episode, as in Ray et al. 2019; none for PPO without a limit
    multiplier_rate: float = 0.02  # 50 over the limit raise lambda by 1; not tuned


def read_args() -> Args:
    """The settings of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Args):
        kind = limit if field.name == "cost_limit" else type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    return Args(**vars(parser.parse_args()))


def limit(text: str) -> float:
    """A number, or none."""
    return math.inf if text == "none" else float(text)


def layers(inputs: int, outputs: int, last_std: float) -> nn.Sequential:
    """A network with two hidden layers of 64 and orthogonal weights."""
    sizes, stds = [inputs, 64, 64, outputs], [2**0.5, 2**0.5, last_std]
    parts: list[nn.Module] = []
    for size, following, std in zip(sizes, sizes[1:], stds, strict=False):
        linear = nn.Linear(size, following)
        nn.init.orthogonal_(linear.weight, std)
        nn.init.zeros_(linear.bias)
        parts += [linear, nn.Tanh()]
    return nn.Sequential(*parts[:-1])


class Agent(nn.Module):
    """A Gaussian policy and two critics, on normalised observations."""

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        self.mean, self.log_std = layers(observations, actions, 0.01), nn.Parameter(torch.full((actions,), -0.5))
        self.critics = nn.ModuleList([layers(observations, 1, 1.0) for _ in range(2)])  # of reward and of cost
        self.register_buffer("seen", torch.tensor(1e-4))
        self.register_buffer("center", torch.zeros(observations))
        self.register_buffer("variance", torch.ones(observations))

    def observe(self, observation: np.ndarray, *, update: bool = False) -> Tensor:
        """Observations (W, D) of the environment, with about mean 0 and variance 1."""
        x = torch.from_numpy(observation).float()
        if update:  # Chan et al.'s running mean and variance
            total, delta = self.seen + len(x), x.mean(0) - self.center
            spread = self.variance * self.seen + x.var(0, unbiased=False) * len(x)
            self.variance = (spread + delta**2 * self.seen * len(x) / total) / total
            self.center, self.seen = self.center + delta * len(x) / total, total
        return ((x - self.center) / (self.variance + 1e-8).sqrt()).clamp(-10, 10)

    def policy(self, x: Tensor) -> Normal:
        """The distribution of actions, (..., A)."""
        return Normal(self.mean(x), self.log_std.exp())

    def values(self, x: Tensor) -> Tensor:
        """What is still to come, discounted: reward and cost, (..., 2)."""
        return torch.cat([critic(x) for critic in self.critics], dim=-1)


def advantages(gains: Tensor, values: Tensor, ended: Tensor, last: Tensor, args: Args) -> Tensor:
    """Generalised advantage estimates of reward and cost, (time, W, 2) (Schulman et al. 2016)."""
    found, following = torch.zeros_like(gains), torch.zeros_like(last)
    for t in reversed(range(len(gains))):
        on = ~ended[t][:, None]
        after = values[t + 1] if t + 1 < len(gains) else last
        # delta_t = r_t + gamma V(s_t+1) - V(s_t);  A_t = delta_t + gamma lambda A_t+1
        delta = gains[t] + args.gamma * after * on - values[t]
        found[t] = following = delta + args.gamma * args.gae_lambda * following * on
    return found


def update(agent: Agent, optimizer: torch.optim.Optimizer, data: dict[str, Tensor], weight: float, args: Args) -> None:
    """PPO's epochs over the data, with the multiplier `weight` of cost."""
    total, learned = len(data["x"]), 2 if args.cost_limit < math.inf else 1  # without a limit, no critic of cost
    for _ in range(args.epochs):
        for rows in torch.randperm(total).split(total // args.minibatches):
            x, advantage = data["x"][rows], data["advantage"][rows]
            advantage = (advantage - advantage.mean(0)) / advantage.std(0).clamp(min=1e-8)
            gain = (advantage[:, 0] - weight * advantage[:, 1]) / (1 + weight)
            ratio = (agent.policy(x).log_prob(data["action"][rows]).sum(-1) - data["log_prob"][rows]).exp()
            surrogate = torch.min(ratio * gain, ratio.clamp(1 - args.clip, 1 + args.clip) * gain).mean()
            fit = (agent.values(x) - data["target"][rows]).square().mean(0)[:learned].sum()
            optimizer.zero_grad()
            (0.5 * fit - surrogate).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
            optimizer.step()


def collect(
    env: Any, agent: Agent, observation: np.ndarray, episode: np.ndarray, args: Args
) -> tuple[dict[str, Tensor], np.ndarray, list[np.ndarray]]:
    """Data of `num_steps` steps of each world, (time * W, ...), the observation after them, and ended episodes.

    `episode` has return and cost of the episodes that are running, (W, 2), and is brought up to date.
    """
    kept: dict[str, list[Tensor]] = {name: [] for name in ("x", "action", "log_prob", "gains", "values", "ended")}
    new: list[np.ndarray] = []
    for _ in range(args.num_steps):
        x = agent.observe(observation, update=True)
        policy, values = agent.policy(x), agent.values(x)
        action = policy.sample()
        observation, reward, terminated, truncated, info = env.step(action.numpy())
        gains, ended = np.stack([reward, info["cost"]], axis=-1), terminated | truncated
        episode += gains
        new += list(episode[ended])
        episode[ended] = 0.0
        gains = torch.from_numpy(gains).float()
        cut = np.flatnonzero(truncated & ~terminated)
        if len(cut):  # an episode that was cut off would have gone on: its last observation has a value
            gains[cut] += args.gamma * agent.values(agent.observe(np.stack(info["final_observation"][cut])))
        row = (x, action, policy.log_prob(action).sum(-1), gains, values, torch.from_numpy(ended))
        for name, value in zip(kept, row, strict=True):
            kept[name].append(value)
    data = {name: torch.stack(values) for name, values in kept.items()}
    last = agent.values(agent.observe(observation))
    data["advantage"] = advantages(data.pop("gains"), data["values"], data.pop("ended"), last, args)
    data["target"] = data["advantage"] + data.pop("values")
    return {name: value.flatten(0, 1) for name, value in data.items()}, observation, new


def main(args: Args) -> None:
    """Train, and print the mean return and cost of the episodes that ended."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # more would take the cores from the physics
    env = make_vec(args.env_id, args.num_envs, seed=args.seed, max_episode_steps=args.episode_steps or None)
    agent = Agent(env.single_observation_space.shape[0], env.single_action_space.shape[0])
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    episode, weight = np.zeros((args.num_envs, 2)), 0.0
    batch, started = args.num_steps * args.num_envs, time.perf_counter()
    observation, _ = env.reset()
    for step in range(batch, args.total_steps + 1, batch):
        with torch.no_grad():
            data, observation, new = collect(env, agent, observation, episode, args)
        if new:
            gain, cost = np.mean(new, axis=0)
            # lambda <- max(0, lambda + rate (J_C - limit)), where J_C is the mean cost of an episode
            weight = max(0.0, weight + args.multiplier_rate * (cost - args.cost_limit))
            speed = step / (time.perf_counter() - started)
            print(f"{step:9,}  return {gain:6.2f}  cost {cost:6.2f}  lambda {weight:4.2f}  steps/s {speed:,.0f}")
        update(agent, optimizer, data, weight, args)
    env.close()


if __name__ == "__main__":
    main(read_args())
