"""Computes the agents' observations, for all worlds at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..nearness import Nearness
from ..physics import Array
from .definition import Definition
from .physics import Physics


class Observer:
    """Computes observations whose components are in the order of the task's observation space.

    Args:
        definition: the task.
        physics: the physics of the worlds.
        observe_position: whether x and y of the agent, m, are appended as the last two components.
        near: length, m, of the nearness that is appended for each bin of a lidar: exp(-distance / near). None for none.

    Attributes:
        size: D, number of components of an observation.
    """

    def __init__(
        self,
        definition: Definition,
        physics: Physics,
        *,
        observe_position: bool = False,
        near: float | None = None,
    ) -> None:
        self._physics, self._observe_position = physics, observe_position
        lidar = definition.task.lidar_conf
        self._max_dist, self._bins, self._alias = lidar.max_dist, lidar.num_bins, lidar.alias
        agent, model = definition.task.agent, definition.model
        sensors = agent.sensor_info
        self._readings: list[tuple[slice, slice]] = []  # columns of the sensor data, columns of the observation
        self._angles: list[tuple[slice, slice]] = []
        self._rotations: list[tuple[slice, slice]] = []
        self._lidars: list[tuple[slice, slice, str]] = []  # rows of the things, columns of the observation, group name
        at = 0
        for name, space in definition.task.obs_info.obs_space_dict.spaces.items():
            size = int(np.prod(space.shape))
            columns = slice(at, at + size)
            at += size
            if name.endswith("_lidar"):
                group = definition.group(name.removesuffix("_lidar"))
                assert group is not None
                self._lidars.append((group.rows, columns, group.name))
                continue
            sensor = model.sensor(name)
            first, last = int(sensor.adr[0]), int(sensor.adr[0] + sensor.dim[0])
            split = agent.sensor_conf.sensors_angle_components
            if name in sensors.hinge_pos_names and split:
                self._angles.append((slice(first, last), columns))
            elif name in sensors.ballquat_names and split:
                self._rotations.append((slice(first, last), columns))
            else:
                first += 2 if name == sensors.freejoint_pos_name else 0  # only the height of a position is observed
                self._readings.append((slice(first, last), columns))
        self._nearness = Nearness(definition.task, near) if near else None
        self._near_columns = slice(at, at + (self._nearness.size if self._nearness else 0))
        self.size = self._near_columns.stop + (2 if observe_position else 0)

    def observe(self, positions: Array, hidden: dict[str, NDArray[np.bool_]]) -> Array:
        """Observations of all worlds, (W, D).

        Args:
            positions: positions of all things, m, (W, things, 2).
            hidden: name of a group -> worlds in which its lidar reads 0, bool, (W,).
        """
        data = self._physics.sensors
        observation = np.empty((len(data), self.size))
        for source, columns in self._readings:
            observation[:, columns] = data[:, source]
        for source, columns in self._angles:
            angle = data[:, source]
            observation[:, columns] = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
        for source, columns in self._rotations:
            observation[:, columns] = _rotation_matrix(data[:, source])
        grid = self._lidar(positions)
        for things, columns, name in self._lidars:
            observation[:, columns] = grid[things].max(axis=0)
            if name in hidden:
                observation[hidden[name], columns] = 0.0
        if self._nearness:
            observation[:, self._near_columns] = self._nearness.of(observation)
        if self._observe_position:
            observation[:, -2:] = self._physics.agent_position[:, :2]
        return observation

    def _lidar(self, positions: Array) -> Array:
        """Closeness of each thing in each bin of the pseudo lidar, (things, W, bins).

        As in BaseTask._obs_lidar_pseudo, a thing fills the bin of its direction. With aliasing it also fills the two
        neighbouring bins in part: the nearer its direction is to a neighbour, the more.
        """
        agent, rotation = self._physics.agent_position.T, self._physics.agent_rotation.transpose(1, 2, 0)
        (x, y), z = np.ascontiguousarray(positions.T) - agent[:2, None], -agent[2]  # from here on worlds are last
        ego_x, ego_y = (x * rotation[0, i] + y * rotation[1, i] + z * rotation[2, i] for i in (0, 1))
        distance = np.sqrt(ego_x**2 + ego_y**2)
        closeness = np.maximum(0.0, self._max_dist - distance) / self._max_dist
        width = 2 * np.pi / self._bins
        angle = np.arctan2(ego_y, ego_x)
        place = np.where(angle < 0, angle + 2 * np.pi, angle) / width
        centre = place.astype(np.intp)
        grid = np.zeros((*distance.shape, self._bins))
        flat, row = grid.reshape(-1), np.arange(0, grid.size, self._bins).reshape(distance.shape)
        if self._alias:
            share = place - centre
            flat[row + (centre + 1) % self._bins] = share * closeness
            flat[row + (centre - 1) % self._bins] = (1 - share) * closeness
        flat[row + centre % self._bins] = closeness
        return grid


def _rotation_matrix(quaternion: Array) -> Array:
    """Rotation matrices, row by row, (W, 9), of quaternions (W, 4), as by mju_quat2Mat."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    rows: list[Any] = [
        w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z,
    ]  # fmt: skip
    return np.stack(rows, axis=-1)
