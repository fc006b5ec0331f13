"""The picture of a study's verdicts."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cmaml_pl.evaluation.statistics import summarise
from cmaml_pl.studies.definition import Arm, Claim, Published, Study
from cmaml_pl.studies.inference import Sample, judge
from cmaml_pl.studies.picture import draw_published, draw_verdicts


def effects(mean: float, noise: float = 0.1) -> NDArray[np.float64]:
    return mean + noise * np.random.default_rng(0).standard_normal((5, 20))


@pytest.fixture
def axis(monkeypatch, tmp_path):
    """Claims that hold, do not hold, and are undecided: by their numbers, and for want of any."""
    samples = [
        Sample(effects(1.0), 0.5),
        Sample(effects(0.2), 0.5),
        Sample(effects(0.5), 0.5),
        Sample(np.zeros((0, 0)), 0.5),
    ]
    claim = {"arm": "cmaml", "quantity": "return", "direction": "higher", "smallest_effect": 0.5, "against": "random"}
    claims = [Claim(**claim, step=step) for step in range(4)]
    study = Study(name="mine", exp="nav2d", arms=[Arm("cmaml")], seeds=[0, 1, 2, 3, 4], steps=3, claims=claims)
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, dpi: figures.append(self))
    draw_verdicts(study, judge(samples), tmp_path / "a.png")
    return figures[0].axes[0]


def test_an_interval_is_on_the_side_of_its_verdict(axis):
    middle, *rows = axis.lines
    assert list(middle.get_xdata()) == [0, 0]
    intervals = [row.get_xdata() for row in rows[::2]]
    assert min(intervals[0]) > 0 > max(intervals[1])
    assert min(intervals[2]) < 0 < max(intervals[2])
    assert [row.get_color() for row in rows[::2]] == ["tab:green", "tab:red", "tab:gray"]
    assert len(rows) == 6  # the claim without numbers has neither interval nor point
    assert max(np.abs(interval).max() for interval in intervals) < 1


def test_every_claim_is_told_with_its_effect_and_verdict(axis):
    claims = [" ".join(text.get_text().split()) for text in axis.get_yticklabels()]
    assert claims[1] == "C-MAML: the return after 1 step is higher than that of a random start, by more than 0.5"
    words = [text.get_text() for text in axis.texts]
    assert [text.split(", ")[-1] for text in words] == ["holds", "does not hold", "undecided", "undecided"]
    assert words[0].startswith("1")


def test_published_curves_are_dashed_in_the_colours_of_their_arms_and_end_with_the_study(monkeypatch, tmp_path):
    costs = {"cost": 0.0, "max_cost": 0.0, "cost_limit": 1.0, "violated": 0, "predicted_cost": 0.0, "critic_error": 0.0}
    rows = [
        {"method": method, "seed": seed, "task": task, "step": step, "return": 10.0 * step + seed + task}
        | {"env_steps": step, **costs}
        for method in ("cmaml", "random")
        for seed in (0, 1)
        for task in (0, 1)
        for step in (0, 1)
    ]
    published = [Published("safemeta", "a figure", {1: 3.0, 0: 2.0, 2: 4.0}), Published("Other", "a table", {1: 5.0})]
    study = Study(name="mine", exp="nav2d", arms=[Arm("cmaml")], steps=1, published=published)
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, dpi: figures.append(self))
    draw_published(study, summarise(rows, {}), tmp_path / "a.png")
    ours, theirs, others = figures[0].axes[0].lines
    assert [list(line.get_ydata()) for line in (ours, theirs, others)] == [[1.0, 11.0], [2.0, 3.0], [5.0]]
    assert [line.get_linestyle() for line in (ours, theirs, others)] == ["-", "--", "--"]
    assert [line.get_color() for line in (ours, theirs)] == ["tab:blue", "teal"]
    assert theirs.get_label() == "SafeMeta (a figure)"
