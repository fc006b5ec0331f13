import imageio.v2 as imageio
import pytest
import torch
from matplotlib.figure import Figure
from tests.evaluation.test_statistics import row

from cmaml_pl.evaluation.figures import draw_things, plot_finetuning, plot_scatter, plot_trajectories
from cmaml_pl.evaluation.statistics import summarise
from cmaml_pl.evaluation.traces import Trace


def make_trace(task, step, worlds=2, time=5):
    generator = torch.Generator().manual_seed(step)
    agent = torch.randn(time + 1, worlds, 1, 2, generator=generator)
    goal = torch.zeros(time + 1, worlds, 1, 2)
    goal[3:] = 1.0  # reached, and drawn anew
    hazards = torch.tensor([[0.5, 0.5], [-0.5, 0.0]]).expand(time + 1, worlds, 2, 2)
    return Trace(task, step, {"agent": agent, "goal": goal, "hazards": hazards}, [time, 2], {"hazards": 0.2}, None)


def make_rows(limit):
    return [
        row(method, seed, task, step, **{"return": step + seed, "cost": task / 2, "cost_limit": limit})
        for method in ("a", "random")
        for seed in (0, 1)
        for task in (3, 4, 5)
        for step in (0, 1, 2)
    ]


@pytest.mark.parametrize("limit", [2.0, float("inf")])
@pytest.mark.parametrize("figure", [plot_finetuning, plot_scatter])
def test_curves_and_scatter_are_drawn_the_same_every_time(figure, limit, tmp_path):
    rows = make_rows(limit)
    arguments = [summarise(rows)] if figure is plot_finetuning else [rows, summarise(rows)]
    figure(*arguments, tmp_path / "a.png")
    figure(*arguments, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert imageio.imread(tmp_path / "a.png").std() > 0


def test_one_seed_and_one_task_have_no_interval_but_are_drawn(tmp_path):
    rows = [line for line in make_rows(2.0) if line["seed"] == 0 and line["task"] == 3]
    plot_finetuning(summarise(rows), tmp_path / "a.png")
    plot_scatter(rows, summarise(rows), tmp_path / "b.png")


def test_trajectories_have_a_row_an_arm_and_a_column_a_task(tmp_path):
    traces = {arm: [make_trace(task, step) for step in (0, 3) for task in (7, 8, 9)] for arm in ("a", "random")}
    plot_trajectories(traces, tmp_path / "a.png")
    height, width, _ = imageio.imread(tmp_path / "a.png").shape
    assert width / height == pytest.approx(3 / 2, rel=0.2)


def test_hazards_are_discs_and_a_goal_is_drawn_wherever_it_was():
    axis = Figure().subplots()
    draw_things(axis, make_trace(1, 0))
    assert [patch.get_radius() for patch in axis.patches] == [0.2, 0.2]
    assert sorted(line.get_xdata()[0] for line in axis.lines) == [0.0, 1.0]


def test_nothing_is_drawn_of_what_came_after_the_first_episode():
    axis = Figure().subplots()
    trace = make_trace(1, 0)
    draw_things(axis, Trace(1, 0, trace.positions, [2, 2], trace.radii, None))
    assert [line.get_xdata()[0] for line in axis.lines] == [0.0]
