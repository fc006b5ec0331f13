"""An exported policy against its checkpoint."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from cmaml_pl import __version__
from cmaml_pl.assembly import open_module
from cmaml_pl.configuration.loading import load_experiment, store
from cmaml_pl.errors import UserError
from cmaml_pl.export import OPSET, TOLERANCE, check, export_policy, load_policy
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.runs.folder import RunFolder

TINY = ["train.tasks_per_batch=2", "rollout.envs_per_task=2", "rollout.horizon=12", "run.id=x", "policy.context=0"]


def make_run(path, exp, *overrides):
    """A run whose checkpoint holds other weights than the first ones; its actor."""
    config, folder = load_experiment(exp, [*TINY, *overrides]), RunFolder(path / "x")
    folder.checkpoints.mkdir(parents=True)
    store(config, folder.config)
    with open_module(config) as module, torch.no_grad():
        actor, generator = module.actor, torch.Generator().manual_seed(3)
        for parameter in actor.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        size = actor.normaliser.mean.numel()
        module.deployed.copy_(actor.vector())
        actor.normaliser.update(3.0 + torch.randn(20, size, generator=generator))
        torch.save({"state_dict": module.state_dict(), "epoch": 6}, folder.last_checkpoint)
    return folder, actor


def actions(actor, observation):
    with torch.no_grad():
        return tuple(x.numpy() for x in actor(torch.from_numpy(observation)))


def observations(size, rows=50):
    return (4.0 + 20.0 * np.random.default_rng(0).standard_normal((rows, size))).astype(np.float32)


@pytest.mark.parametrize("overrides", [(), ("policy.hidden=[7]",), ("policy.hidden=[6,5,4]",)])
def test_both_formats_give_the_checkpoints_actions(overrides, tmp_path):
    folder, actor = make_run(tmp_path, "nav2d", *overrides)
    differences = export_policy(folder.last_checkpoint, out=None)
    assert list(differences) == [folder.export / "policy.safetensors", folder.export / "policy.onnx"]
    observation = observations(18)
    expected = actions(actor, observation)
    for found, wanted in zip(actions(load_policy(folder.export), observation), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    model = onnx.load(folder.export / "policy.onnx")
    assert [entry.version for entry in model.opset_import] == [OPSET]
    assert [node.name for node in (*model.graph.input, *model.graph.output)] == ["observation", "mean", "std"]
    for rows in (1, 50):  # any batch
        found = ReferenceEvaluator(model).run(["mean", "std"], {"observation": observation[:rows]})
        for array, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(array, wanted[:rows], atol=1e-5)


def test_the_description_says_what_the_policy_is_and_how_to_run_it(tmp_path):
    folder, _ = make_run(tmp_path, "point_goal", "arm=maml", "seed=4")
    export_policy(folder.path, out=tmp_path / "a/b")
    about = json.loads((tmp_path / "a/b/policy.json").read_text())
    assert {key: about[key] for key in about if key != "how"} == {
        "cmaml_pl": __version__,
        "exp": "point_goal",
        "arm": "maml",
        "seed": 4,
        "meta_iterations": 7,
        "family": "layout",
        "env_id": "SafetyPointGoal1-v0",
        "observation_size": 108,
        "action_size": 2,
        "action_low": [-1.0, -1.0],
        "action_high": [1.0, 1.0],
        "hidden": [64, 64],
        "activation": "tanh",
        "observation_clip": 10.0,
        "layers": ["mean.0", "mean.2", "mean.4"],
        "onnx_opset": OPSET,
    }
    assert "exp(log_std)" in about["how"]


def test_the_loader_in_the_manual_computes_the_actions(tmp_path):
    folder, actor = make_run(tmp_path, "nav2d")
    export_policy(folder.path, out=None)
    manual = (Path(__file__).parents[1] / "docs/operations.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", manual, flags=re.DOTALL)
    (code,) = [block for block in blocks if "def load_policy" in block]
    names = {}
    exec(code, names)
    observation = observations(18)
    for found, wanted in zip(
        names["load_policy"](folder.export)(observation), actions(actor, observation), strict=True
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_file_that_gives_other_actions_is_refused(tmp_path):
    folder, actor = make_run(tmp_path, "nav2d")
    export_policy(folder.path, out=None)
    for value in (0.01, float("nan")):
        with torch.no_grad():
            actor.log_std.add_(value)
        with pytest.raises(UserError, match="is not usable: its actions differ"):
            check(actor, folder.export)


def test_a_context_that_is_folded_wrongly_is_seen(tmp_path, monkeypatch):
    folder, _ = make_run(tmp_path, "nav2d", "policy.context=3")
    assert all(difference < TOLERANCE for difference in export_policy(folder.path, out=None).values())
    folded = GaussianActor.folded

    def wrongly(actor):
        result = folded(actor)
        with torch.no_grad():
            result.mean[0].bias.add_(0.01)
        return result

    monkeypatch.setattr(GaussianActor, "folded", wrongly)
    with pytest.raises(UserError, match=r"policy\.safetensors is not usable: its actions differ"):
        export_policy(folder.path, out=None)


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path):
    folder, _ = make_run(tmp_path, "nav2d")
    with pytest.raises(UserError, match="must be a folder"):
        export_policy(folder.path, out=folder.config)


def test_the_policy_that_is_deployed_is_exported_and_not_the_newest(tmp_path):
    folder, actor = make_run(tmp_path, "nav2d")
    content = torch.load(folder.last_checkpoint, weights_only=True)
    content["state_dict"]["deployed"] *= 0.5
    torch.save(content, folder.last_checkpoint)
    export_policy(folder.last_checkpoint, out=None)
    exported = load_policy(folder.export)
    assert torch.equal(exported.vector(), 0.5 * actor.vector())


def test_a_policy_with_a_context_is_exported_as_one_without(tmp_path):
    folder, actor = make_run(tmp_path, "nav2d", "policy.context=3")
    export_policy(folder.last_checkpoint, out=None)
    observation = observations(18)
    for found, wanted in zip(
        actions(load_policy(folder.export), observation), actions(actor, observation), strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
