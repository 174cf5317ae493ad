"""Encoders that the tests train with, and some that cannot be trained with."""

import torch
from torch import nn


class Tower(nn.Module):
    """Three features of a row, through layers that torch starts as it does."""

    def __init__(self, space):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(space.shape[0], 5), nn.LayerNorm(5), nn.Linear(5, 3))
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, rows):
        return torch.sin(self.scale * self.layers(rows))


class Shapes(nn.Module):
    """Says in which shape observations came: all features of a row are that."""

    def forward(self, obs):
        return torch.full((len(obs), 2), float(obs[0].numel() + 100 * obs.ndim))

    def __init__(self, space):
        super().__init__()


class Square(nn.Module):
    def __init__(self, space):
        super().__init__()

    def forward(self, obs):
        return obs.flatten(1)[:, :, None]


class Raises(nn.Module):
    def __init__(self, space):
        raise KeyError("no idea")


class Wide(Tower):
    def __init__(self, space):
        super().__init__(space)
        self.double()

    def forward(self, rows):
        return self.layers(rows.double()).float()


class Normed(Tower):
    def __init__(self, space):
        super().__init__(space)
        self.layers.append(nn.BatchNorm1d(3))


class Dropping(Tower):
    def __init__(self, space):
        super().__init__(space)
        self.layers.append(nn.Dropout(0.1))


def no_class(space):
    return Tower(space)
