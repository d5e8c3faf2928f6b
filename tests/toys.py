"""The problem of `reference.py`, in JAX."""

import jax
import jax.numpy as jnp
import reference

import stale_adam as sa


def toy_loss(params, batch, key):
  """The loss that `reference.loss_and_gradient` writes out in NumPy."""
  del key
  hidden = jnp.tanh(batch['inputs'] @ params['inner'])
  error = hidden @ params['outer'] - batch['target']
  return 0.5 * jnp.mean(jnp.square(error))


def init(key):
  """Parameters of version 0, whatever the key."""
  del key
  return jax.tree.map(jnp.float32, reference.initial())


PROBLEM = sa.Problem(init, toy_loss, reference.batch)

# workers, local, global accumulation, synchronous, pull_every
COMMUNICATIONS = [
  (1, 1, 1, False, 1),
  (4, 1, 1, False, 1),
  (4, 4, 1, False, 1),
  (4, 2, 2, False, 1),
  (4, 1, 4, False, 1),
  (3, 2, 5, False, 1),
  (4, 1, 1, True, 1),
  (4, 2, 4, True, 1),
  (3, 1, 1, True, 5),
  (3, 1, 2, False, 3),
]
