"""A small generated behaviour and a model trained on it for a moment, made once for the tests of the model."""

from __future__ import annotations

from functools import cache

import torch

from serving import catalogue, data, train
from serving.model import Shape

# On shared cores two threads of torch wait for each other longer than they compute.
torch.set_num_threads(1)

QUICK = train.Plan(seconds=20.0, epochs=4, shape=Shape(width=16, layers=1), batch=16, seed=1)


@cache
def behaviour() -> data.Behaviour:
    items, sequences = catalogue.generate(users=80, items=160, seed=1)
    return data.Behaviour(name="small", items=items, sequences=sequences)


@cache
def split() -> data.Split:
    return data.Split.of(behaviour())


@cache
def trained() -> train.Trained:
    with torch.inference_mode(mode=False):  # the first test to ask may be in inference mode, where nothing learns
        return train.fit(split(), behaviour().items, QUICK)
