"""The same Transformer in plain PyTorch, for experiments.benchmarks.training.

Post-norm, sinusoidal positions, one tied embedding table, label smoothing,
dropout in the same places, fused Adam, PyTorch's own attention kernel, and
batches of sentences of about the same length, padded to the longest.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stale_adam.nmt.data.vocabulary import BOS, EOS, PAD


class Attention(nn.Module):
  def __init__(self, size, heads):
    super().__init__()
    self.heads = heads
    self.query = nn.Linear(size, size)
    self.key_value = nn.Linear(size, 2 * size)
    self.out = nn.Linear(size, size)

  def forward(self, x, memory, mask=None, causal=False):
    split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
    keys, values = self.key_value(memory).chunk(2, dim=-1)
    mixed = functional.scaled_dot_product_attention(
      split(self.query(x)),
      split(keys),
      split(values),
      attn_mask=mask,
      is_causal=causal,
    )
    return self.out(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
  def __init__(self, size, hidden, heads, dropout, decoder):
    super().__init__()
    self.own = Attention(size, heads)
    self.source = Attention(size, heads) if decoder else None
    self.widen, self.narrow = nn.Linear(size, hidden), nn.Linear(hidden, size)
    self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2 + decoder))
    self.dropout = nn.Dropout(dropout)

  def forward(self, x, own_mask, memory=None, source_mask=None):
    norms = iter(self.norms)
    causal = self.source is not None
    own = self.own(x, x, own_mask, causal)
    x = next(norms)(x + self.dropout(own))
    if causal:
      found = self.source(x, memory, source_mask)
      x = next(norms)(x + self.dropout(found))
    forward = self.narrow(functional.relu(self.widen(x)))
    return next(norms)(x + self.dropout(forward))


class Transformer(nn.Module):
  def __init__(self, vocabulary, size, hidden, heads, depth, dropout):
    super().__init__()
    self.embedding = nn.Embedding(vocabulary, size)
    nn.init.normal_(self.embedding.weight, std=size**-0.5)
    layer = lambda decoder: Layer(size, hidden, heads, dropout, decoder)
    self.encoder = nn.ModuleList(layer(False) for _ in range(depth))
    self.decoder = nn.ModuleList(layer(True) for _ in range(depth))
    self.dropout = nn.Dropout(dropout)
    rate = 10000.0 ** (-torch.arange(0, size, 2) / size)
    angle = torch.arange(1024.0)[:, None] * rate
    self.register_buffer('places', torch.cat([angle.sin(), angle.cos()], 1))

  def forward(self, source, inputs):
    """Logits [sentences, target positions, vocabulary]."""
    mask = (source != PAD)[:, None, None, :]
    memory = self._embed(source)
    for layer in self.encoder:
      memory = layer(memory, mask)
    x = self._embed(inputs)
    for layer in self.decoder:
      x = layer(x, None, memory, mask)
    return x @ self.embedding.weight.T

  def _embed(self, tokens):
    x = self.embedding(tokens) * self.embedding.embedding_dim**0.5
    return self.dropout(x + self.places[: tokens.shape[1]])


def length_sorted(
  source: Sequence[np.ndarray], target: Sequence[np.ndarray], words: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
  """Batches of at most `words` padded positions on either side, shuffled."""
  order = sorted(
    range(len(source)), key=lambda i: (len(target[i]), len(source[i]))
  )
  groups: list[list[int]] = [[]]
  for i in order:
    longest = max(max(len(source[j]), len(target[j])) for j in [*groups[-1], i])
    if longest * (len(groups[-1]) + 1) > words:
      groups.append([])
    groups[-1].append(i)

  def padded(side, group):
    rows = [torch.from_numpy(side[i].astype(np.int64)) for i in group]
    return nn.utils.rnn.pad_sequence(rows, True, PAD)

  draw = np.random.default_rng(0)
  return [
    (padded(source, groups[i]), padded(target, groups[i]))
    for i in draw.permutation(len(groups))
  ]


def trainer(
  vocabulary: int,
  sizes: dict,
  batches: list,
  smoothing: float,
  rate: float,
  compiled: bool = False,
) -> Callable[[int], int]:
  """`train(count) -> target words`: trains `count` batches, one update each."""
  torch.manual_seed(0)
  model = Transformer(vocabulary, **sizes)
  adam = torch.optim.Adam(
    model.parameters(), rate, betas=(0.9, 0.98), eps=1e-9, fused=True
  )
  # Of any length: each of its own would take a compilation.
  forward = torch.compile(model, dynamic=True) if compiled else model
  place = 0

  def train(count):
    nonlocal place
    words = 0
    for _ in range(count):
      source, target = batches[place % len(batches)]
      place += 1
      inputs = functional.pad(target[:, :-1], (1, 0), value=BOS)
      inputs = inputs.masked_fill(inputs == EOS, PAD)
      logits = forward(source, inputs)
      loss = functional.cross_entropy(
        logits.flatten(0, 1),
        target.flatten(),
        ignore_index=PAD,
        label_smoothing=smoothing,
      )
      adam.zero_grad(set_to_none=True)
      loss.backward()
      adam.step()
      words += int((target != PAD).sum())
    return words

  return train
