import imageio.v2 as imageio
import pytest
import torch
from matplotlib.figure import Figure
from tests.evaluation.test_statistics import row

from cmaml_pl.evaluation.figures import plot_finetuning, plot_scatter
from cmaml_pl.evaluation.labels import find_looks
from cmaml_pl.evaluation.paths import draw_things, plot_adaptation, plot_trajectories
from cmaml_pl.evaluation.statistics import summarise
from cmaml_pl.evaluation.traces import Trace
from cmaml_pl.evaluation.yardstick import estimate_scores, find_yardstick


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


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, in place of their files."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, dpi: figures.append(self))
    return figures


COSTS = {"cmaml": (4.0, 1.0), "maml": (9.0, 20.0), "oracle": (1.0, 1.0), "random": (5.0, 5.0)}


def study(costs=COSTS, limit=3.0):
    return [
        row(method, seed, task, step, **{"return": 1.0 + len(method) + step, "cost": cost, "cost_limit": limit})
        for method, curve in costs.items()
        for seed in (0, 1)
        for task in (3, 4)
        for step, cost in enumerate(curve)
    ]


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def names(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def curves(axis):
    """Lines of several points, which are those of arms, (colour, values)."""
    lines = [line for line in axis.lines if len(line.get_ydata()) > 1 and line.get_linestyle() == "-"]
    return [(line.get_color(), list(line.get_ydata())) for line in lines]


def test_the_zone_around_the_limit_stays_legible_and_what_is_cut_off_is_named(drawn, tmp_path):
    plot_finetuning(summarise(study()), tmp_path)
    plot_scatter(study(), summarise(study()), tmp_path)
    assert drawn[0].axes[1].get_ylim() == (0.0, 12.0)
    assert drawn[1].axes[0].get_xlim() == (0.0, 12.0)
    for figure in drawn:
        beyond, limit = sorted(texts(figure), key=lambda text: "limit 3" in text)
        assert limit == "limit 3"
        assert "MAML (no limit): cost 9 to 20" in beyond
    near = {method: curve for method, curve in COSTS.items() if method != "maml"}
    plot_finetuning(summarise(study(near)), tmp_path)
    assert texts(drawn[2]) == ["limit 3"]
    assert 5.0 < drawn[2].axes[1].get_ylim()[1] < 12.0


@pytest.mark.parametrize("limit", [0.0, float("inf")])
def test_without_a_limit_to_look_at_nothing_is_cut_off(limit, drawn, tmp_path):
    plot_finetuning(summarise(study(limit=limit)), tmp_path)
    plot_scatter(study(limit=limit), summarise(study(limit=limit)), tmp_path)
    assert drawn[0].axes[1].get_ylim()[1] > 20.0
    assert drawn[1].axes[0].get_xlim()[1] > 20.0
    assert texts(drawn[0]) == texts(drawn[1]) == (["limit 0"] if limit == 0 else [])


def test_at_most_five_arms_are_drawn_and_the_others_named(drawn, tmp_path):
    costs = dict.fromkeys([*COSTS, "pretrain", "eta_off", "cmaml_cpo"], (1.0, 1.0))
    plot_finetuning(summarise(study(costs)), tmp_path)
    plot_scatter(study(costs), summarise(study(costs)), tmp_path)
    for figure in drawn:
        assert {len(curves(axis)) for axis in figure.axes} == {5}
        note = " ".join(figure.legends[0].get_title().get_text().split())
        assert note == "not drawn (summary.csv has them): C-MAML without eta; C-MAML, CPO inside"
        assert names(figure)[:5] == [
            *("C-MAML", "oracle (sees the task)", "random start", "MAML (no limit)", "pretraining")
        ]


def test_an_arm_has_one_colour_in_all_panels_and_a_hollow_point_where_it_is_over_the_limit(drawn, tmp_path):
    plot_finetuning(summarise(study()), tmp_path)
    looks = find_looks(list(COSTS))
    for axis in drawn[0].axes:
        assert [colour for colour, _ in curves(axis)] == [look.colour for look in looks.values()]
    cost = drawn[0].axes[1]
    assert curves(cost)[0] == (looks["cmaml"].colour, [4.0, 1.0])
    points = [line for line in cost.lines if line.get_marker() == "o"]
    assert {line.get_ydata()[0]: line.get_markerfacecolor() == "white" for line in points} == {
        cost: cost > 3.0 for cost in (1.0, 4.0, 5.0, 9.0, 20.0)
    }


def test_the_score_is_drawn_where_there_is_one_and_panels_say_what_is_better(drawn, tmp_path):
    rows = study()
    scores = estimate_scores(rows, find_yardstick(rows, oracles={"oracle"}, random="random"))
    plot_finetuning(summarise(rows, scores), tmp_path)
    plot_finetuning(summarise(rows), tmp_path)
    titles = [[axis.get_title() for axis in figure.axes] for figure in drawn]
    assert titles[0][0].startswith("Score")
    assert titles[0][1:] == titles[1]
    assert all("is better" in title for title in titles[0])
    assert curves(drawn[0].axes[0])[1][1][-1] == pytest.approx(1.0)  # the oracle's last step
    assert all(axis.get_xlabel() and axis.get_ylabel() for figure in drawn for axis in figure.axes)


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


def test_adaptation_is_shown_by_the_paths_of_cmaml_beside_the_curves_of_all(drawn, tmp_path):
    rows = study({name: (2.0, 2.0, costs[1]) for name, costs in COSTS.items()})
    traces = {arm: [make_trace(task, step) for step in (0, 2) for task in (3, 4)] for arm in COSTS}
    plot_adaptation(rows, summarise(rows), traces, tmp_path / "a.png")
    (figure,) = drawn
    before, after = figure.axes[0], figure.axes[3]
    assert before.get_ylabel() == "before adaptation"
    assert after.get_ylabel() == "after adaptation, 2 steps"
    assert before.get_title() == "return 6.00, cost 2.0"  # of the first seed and task
    assert after.get_title() == "return 8.00, cost 1.0"
    assert [axis.get_title().split()[0] for axis in (figure.axes[2], figure.axes[5])] == ["Return", "Cost"]
    assert len(curves(figure.axes[2])) == len(COSTS)
    markers = {handle.get_label(): handle.get_marker() for handle in figure.legends[0].legend_handles}
    assert (markers["goal"], markers["hazards"]) == ("*", "o")  # of the two, the hazards have a radius


def test_the_paths_of_a_run_without_a_known_name_are_its_own_and_not_those_of_the_random_start(drawn, tmp_path):
    costs = {"random": (9.0, 8.0, 7.0), "fomaml+trpo_lag": (2.0, 2.0, 1.0)}
    traces = {arm: [make_trace(task, step) for step in (0, 2) for task in (3, 4)] for arm in costs}
    rows = study(costs)
    plot_adaptation(rows, summarise(rows), traces, tmp_path / "a.png")
    assert drawn[0].axes[0].get_title().endswith("cost 2.0")


def test_robots_that_move_on_a_line_are_drawn_along_time_with_their_target(drawn, tmp_path):
    """Two worlds at 1 m/s and, of the second, an episode that ends after 4 steps; a target of 2 m/s."""
    time = torch.arange(7.0)
    path = torch.stack([time, torch.zeros(7)], dim=1)[:, None, None].expand(7, 2, 1, 2)
    positions = {"agent": path, "target": 2 * path}
    traces = {"cmaml": [Trace(3, step, positions, [6, 4], {}, None) for step in (0, 2)]}
    rows = study({"cmaml": (2.0, 2.0, 2.0)})
    plot_adaptation(rows, summarise(rows), traces, tmp_path / "a.png")
    plot_trajectories(traces, tmp_path / "b.png")
    first = drawn[0].axes[0]
    target, *paths = [line for line in first.lines if line.get_marker() != "."]
    assert target.get_linestyle() == "--"
    assert (list(target.get_xdata()), list(target.get_ydata())) == (list(range(7)), [2.0 * t for t in range(7)])
    assert [list(line.get_ydata()) for line in paths] == [list(range(7)), list(range(5))]
    assert first.get_ylabel() == "before adaptation\nalong x, m"
    assert drawn[0].axes[2].get_xlabel() == drawn[1].axes[0].get_xlabel() == "time step"
    assert {"target"} & set(names(drawn[0]))
    assert "goal" not in names(drawn[0])


def test_costs_that_are_discounted_are_called_so(drawn, tmp_path):
    rows = study()
    plot_finetuning(summarise(rows), tmp_path / "a.png", discount=0.99)
    plot_scatter(rows, summarise(rows), tmp_path / "b.png", discount=0.99)
    plot_finetuning(summarise(rows), tmp_path / "c.png")
    labels = [figure.axes[1].get_ylabel() for figure in (drawn[0], drawn[2])]
    assert labels == ["discounted cost per episode", "cost per episode"]
    assert drawn[1].axes[0].get_xlabel().startswith("discounted cost per episode")
