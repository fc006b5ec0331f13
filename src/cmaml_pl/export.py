"""Writes a trained policy to files that other programs can read: safetensors with JSON, and ONNX."""

import json
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torchrl.data import Bounded, TensorSpec

from cmaml_pl import __version__
from cmaml_pl.assembly import open_module
from cmaml_pl.configuration.schema import GAUSSIAN, Config
from cmaml_pl.errors import UserError
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.runs.checkpoints import Checkpoint, load_checkpoint, restore
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.runs.start import open_run
from cmaml_pl.seeding import derive_generator

TENSORS, DESCRIPTION, ONNX = "policy.safetensors", "policy.json", "policy.onnx"
"""Names of the files of an export."""

OPSET, IR_VERSION = 17, 8
"""Versions of the ONNX file: those of ONNX 1.12 (2022). The graph needs nothing newer, and every current runtime reads
them."""

TOLERANCE = 1e-5
"""Largest allowed difference of an action between the ONNX file and the checkpoint: absolute for actions up to 1,
relative above. It is not 0 because ONNX may add numbers in another order, in 32 bits."""

ACTION_RECIPE = (
    "x = clip((observation - normaliser.mean) / sqrt(normaliser.variance + 1e-8), -observation_clip, observation_clip);"
    " for each of layers: x = LAYER.weight @ x + LAYER.bias, and after all but the last x = tanh(x); "
    "mean = x, std = exp(log_std). The action is mean, or mean + std * standard normal noise, as in training; "
    "clip it to action_low and action_high where they are not null."
)


def export_policy(path: Path, *, out: Path | None) -> dict[Path, float]:
    """Write the meta-policy of a checkpoint with its observation normaliser, and check the written files.

    Args:
        path: a checkpoint, or a run folder for its newest checkpoint.
        out: folder of the files; None takes `export` in the run folder.

    Returns:
        File -> largest difference between its actions' means and standard deviations and those of the checkpoint, for
        the safetensors and the ONNX file. TOLERANCE says how a difference is measured. The observations of the check
        are random: some are like those that the policy has seen, others far away from them.

    Raises:
        UserError: there is no such checkpoint, its network is the user's own, or a file gives other actions than it.
    """
    checkpoint = load_checkpoint(path)
    config, folder = open_run(RunFolder.of(checkpoint).path, checkpoint)
    if config.policy.actor != GAUSSIAN:
        raise UserError(
            f"export writes the network of this package alone, but {path} has policy.actor={config.policy.actor}: load "
            "it in Python, by cmaml_pl.load_run, as docs/own_environment.md shows."
        )
    with open_module(config) as module:
        restore(module, checkpoint)
        module.actor.load_vector(module.deployed)
        assert isinstance(module.actor, GaussianActor)
        trained, actor, bounds = module.actor, module.actor.folded(), module.rollouts.env.action_spec
    out = out or folder.export
    if out.exists() and not out.is_dir():
        raise UserError(f"out is {out}, but must be a folder.")
    out.mkdir(parents=True, exist_ok=True)
    (out / DESCRIPTION).write_text(json.dumps(describe(config, checkpoint, actor, bounds), indent=2) + "\n")
    (out / TENSORS).write_bytes(save(actor.state_dict()))  # save_file would make the file readable by its owner only
    onnx.save_model(onnx_model(actor), out / ONNX)
    return check(trained, out)


def describe(config: Config, checkpoint: Checkpoint, actor: GaussianActor, bounds: TensorSpec) -> dict[str, Any]:
    """What policy.json says of the actor of a checkpoint, whose actions have the spec `bounds`."""
    limited = isinstance(bounds, Bounded)
    return {
        "cmaml_pl": __version__,
        "exp": config.exp,
        "arm": config.arm,
        "seed": config.seed,
        "meta_iterations": checkpoint.iterations,
        "family": config.tasks.family,
        "env_id": getattr(config.tasks, "env_id", None),
        "observation_size": actor.normaliser.mean.numel(),
        "action_size": actor.log_std.numel(),
        "action_low": bounds.space.low[0, 0].tolist() if limited else None,
        "action_high": bounds.space.high[0, 0].tolist() if limited else None,
        "hidden": list(config.policy.hidden),
        "activation": "tanh",
        "observation_clip": actor.normaliser.clip,
        "layers": [f"mean.{name}" for name, layer in actor.mean.named_children() if isinstance(layer, nn.Linear)],
        "onnx_opset": OPSET,
        "how": ACTION_RECIPE,
    }


def check(actor: GaussianActor, folder: Path) -> dict[Path, float]:
    """Check the files in `folder` against `actor`; see `export_policy` for what is returned and raised."""
    normaliser = actor.normaliser
    noise = torch.randn(256, normaliser.mean.numel(), generator=derive_generator(0, "export"), dtype=torch.float64)
    # the noise is five standard deviations wide, so that the normaliser clips some of the observations
    observation = (normaliser.mean + 5.0 * (normaliser.variance + 1e-8).sqrt() * noise).float()
    evaluator = ReferenceEvaluator(onnx.load_model(folder / ONNX))
    with torch.no_grad():
        expected, again = torch.stack(actor(observation)), torch.stack(load_policy(folder)(observation))
    from_onnx = torch.stack([torch.from_numpy(x) for x in evaluator.run(None, {"observation": observation.numpy()})])
    differences: dict[Path, float] = {}
    exact = 0.0 if actor.context is None else TOLERANCE  # what a context adds to the first layer is rounded once more
    for path, actions, allowed in ((folder / TENSORS, again, exact), (folder / ONNX, from_onnx, TOLERANCE)):
        differences[path] = float(((actions - expected).abs() / expected.abs().clamp_min(1.0)).max())
        if not differences[path] <= allowed:  # written with `not`, so that NaN is refused as well
            raise UserError(f"{path} is not usable: its actions differ from the checkpoint's by {differences[path]:g}.")
    return differences


def load_policy(folder: Path) -> GaussianActor:
    """The actor of an export, read from its safetensors and JSON files."""
    about: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
    actor = GaussianActor(
        about["observation_size"],
        about["action_size"],
        hidden=about["hidden"],
        init_log_std=0.0,
        generator=torch.Generator(),
    )
    actor.load_state_dict(load_file(folder / TENSORS))
    return actor


def onnx_model(actor: GaussianActor) -> onnx.ModelProto:
    """The policy as an ONNX graph: observation (batch, D) -> mean and std, both (batch, A), in 32 bits."""
    normaliser, actions = actor.normaliser, actor.log_std.numel()
    constants: dict[str, Tensor] = {
        **dict(actor.named_parameters()),
        "normaliser.mean": normaliser.mean.float(),
        "normaliser.scale": (normaliser.variance + 1e-8).sqrt().float(),
        "clip.low": torch.tensor(-normaliser.clip),
        "clip.high": torch.tensor(normaliser.clip),
    }

    def end(name: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])

    graph = helper.make_graph(
        _onnx_nodes(actor),
        "policy",
        [end("observation", normaliser.mean.numel())],
        [end("mean", actions), end("std", actions)],
        [numpy_helper.from_array(tensor.detach().numpy(), name) for name, tensor in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="cmaml_pl"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _onnx_nodes(actor: GaussianActor) -> list[onnx.NodeProto]:
    """The operators of `ACTION_RECIPE`, in order. An input that is no node's output is a constant of the graph."""
    nodes = [
        helper.make_node("Sub", ["observation", "normaliser.mean"], ["centred"]),
        helper.make_node("Div", ["centred", "normaliser.scale"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "clip.low", "clip.high"], ["features"]),
    ]
    layers, x = list(actor.mean.named_children()), "features"
    for i, (name, layer) in enumerate(layers):
        y = "mean" if i == len(layers) - 1 else f"x{i}"
        if isinstance(layer, nn.Linear):
            nodes.append(helper.make_node("Gemm", [x, f"mean.{name}.weight", f"mean.{name}.bias"], [y], transB=1))
        else:
            nodes.append(helper.make_node("Tanh", [x], [y]))
        x = y
    return [
        *nodes,
        helper.make_node("Exp", ["log_std"], ["exp_log_std"]),
        helper.make_node("Shape", ["mean"], ["shape"]),
        helper.make_node("Expand", ["exp_log_std", "shape"], ["std"]),
    ]
