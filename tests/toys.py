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
