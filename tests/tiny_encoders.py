"""Encoders that the tests train with, and some that cannot be trained with."""

import torch
from torch import nn
from torch.nn import functional

from ppo_fast.learners.encoders import PictureEncoder


class Tower(nn.Module):
    """Three features of a row, through layers that torch starts as it does."""

    def __init__(self, space):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(space.shape[0], 5), nn.LayerNorm(5), nn.Linear(5, 3))
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, rows):
        return torch.sin(self.scale * self.layers(rows))


class Scene(nn.Module):
    """Of `tiny_envs.Scene`: the convolutions of its picture, and what is beside it."""

    def __init__(self, space):
        super().__init__()
        self.camera = PictureEncoder(space["camera"])
        self.rest = nn.Linear(2 + 3, 4)

    def forward(self, obs):
        numbers, choice = obs["rest"]
        return torch.cat(
            [self.camera(obs["camera"]), self.rest(torch.cat([numbers, choice], 1))], 1
        )


class Attentive(nn.Module):
    """Attention with a dropout of 0."""

    def __init__(self, space):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, rows):
        return self.layer(rows[:, None])[:, 0]


class Lazy(nn.Module):
    """Made by its first call."""

    def __init__(self, space):
        super().__init__()
        self.layer = nn.LazyLinear(3)

    def forward(self, rows):
        return torch.tanh(self.layer(rows))


class Keeping(Tower):
    """A tensor that the first call with so many rows makes serves the others."""

    def __init__(self, space):
        super().__init__(space)
        self.kept = {}

    def forward(self, rows):
        if len(rows) not in self.kept:
            self.kept[len(rows)] = torch.full((len(rows), 1), 0.5)
        return super().forward(rows) * self.kept[len(rows)]


class Frozen(Tower):
    """The first layer stays as it is, and another one is never asked."""

    def __init__(self, space):
        super().__init__(space)
        self.layers[0].requires_grad_(False)
        self.unused = nn.Linear(2, 2)


# What cannot be trained with


class Raises(nn.Module):
    def __init__(self, space):
        raise KeyError("no idea")


class Writing(Tower):
    def forward(self, rows):
        return super().forward(rows.mul_(0.5))


class Square(nn.Module):
    def __init__(self, space):
        super().__init__()

    def forward(self, obs):
        return obs.flatten(1)[:, :, None]


class Pair(Square):
    def forward(self, obs):
        return obs, obs


class Empty(Square):
    def forward(self, obs):
        return obs[:, :0]


class Double(Square):
    def forward(self, obs):
        return obs.double()


class Squeezed(Tower):
    def forward(self, rows):
        return super().forward(rows).squeeze(0)


class Infinite(Tower):
    def forward(self, rows):
        return super().forward(rows) / 0


class Noisy(Tower):
    def forward(self, rows):
        return super().forward(rows) + 0.1 * torch.randn(3)


class Remembering(Tower):
    before = 0.0

    def forward(self, rows):
        features = super().forward(rows) + self.before
        self.before = features.mean().item()
        return features


class Dropping(Tower):
    def forward(self, rows):
        return functional.dropout(super().forward(rows), 0.5)


class Leaking(Tower):
    def __init__(self, space):
        super().__init__(space)
        self.layers.append(nn.RReLU())


class Attending(Attentive):
    """With the dropout of 0.1 that the layer has by itself."""

    def __init__(self, space):
        super().__init__(space)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)


class Centred(Tower):
    def forward(self, rows):
        return super().forward(rows - rows.mean(0))


class Normed(Tower):
    def __init__(self, space):
        super().__init__(space)
        self.layers.append(nn.BatchNorm1d(3))


class Counting(Tower):
    def __init__(self, space):
        super().__init__(space)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, rows):
        self.calls += 1
        return super().forward(rows)


class Noting(Tower):
    def get_extra_state(self):
        return "notes"

    def set_extra_state(self, state):
        pass


class Detached(Tower):
    def forward(self, rows):
        return super().forward(rows).detach()


class Wide(Tower):
    def __init__(self, space):
        super().__init__(space)
        self.layers.double()

    def forward(self, rows):
        return self.layers(rows.double()).float()


class Branching(Tower):
    def forward(self, rows):
        features = super().forward(rows)
        return -features if features.sum() > 1e3 else features


def no_class(space):
    return Tower(space)
