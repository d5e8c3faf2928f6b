"""Artificial staleness in a training loop: a snapshot that is held."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stale_adam import checks
from stale_adam.transforms.parts import (
  Tree,
  copies,
  with_staleness,
)
from stale_adam.transforms.pulled import HoldState, check_pulled


def hold(
  inner: optax.GradientTransformation,
  pull_every: int,
  phases: Sequence[int] | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Take gradients at a snapshot that is renewed every U updates.

    theta_{v+1} = theta_v + inner(gradient at theta_{v - v mod U})

  This is artificial staleness, uniform on 0..U-1. Take gradients at
  `pulled_params(state)`, and give these parameters to update as `pulled`. The
  snapshot is taken here: apply the updates as returned, and put nothing after
  this transformation that changes them. Each call counts as an update.

  In the paper's text all workers share one snapshot; the authors' code staggers
  them. With `phases`, worker w pulls after update v = 1, 2, ... if v mod U =
  phases[w], every leaf of `pulled_params(state)` has a leading axis of one
  entry per worker, for `jax.vmap`, and the loop sums the workers' gradients.

  The inner optimizer gets `staleness`, `stalest`, `pushes` and `pulled` as
  extra arguments, as on a server; with `phases` it gets no `pulled`: the sum of
  their gradients was not taken at one point.

  Args:
    inner: the optimizer.
    pull_every: U, updates between two pulls; 1 is the inner optimizer.
    phases: one number in 0..U-1 per worker, or None for a shared snapshot.

  Returns:
    A transformation that keeps one snapshot, or one per worker.

  Raises:
    ValueError: if pull_every is not a whole number, or below 1; if phases is
      empty or has a number outside 0..U-1. From update: if params is missing,
      or `pulled` is missing or not of the form of `pulled_params(state)`.

  Source: the paper's section 4.3; the authors' released code for `phases`.
  """
  inner = optax.with_extra_args_support(inner)
  pull_every = checks.whole('pull_every', pull_every, 1)
  if phases is not None and (
    not len(phases) or not all(p in range(pull_every) for p in phases)
  ):
    raise ValueError(
      f'phases={phases}: use one whole number in 0..{pull_every - 1} per worker'
    )

  def init(params: Tree) -> HoldState:
    # Two zeros: an array must not be donated twice.
    zero, inner_state = jnp.int32(0), inner.init(params)
    if phases is None:
      snapshot = jax.tree.map(lambda x: x[0], copies(params, 1))
      return HoldState(zero, jnp.int32(0), snapshot, inner_state)
    snapshots = copies(params, len(phases))
    staleness = jnp.zeros(len(phases), jnp.int32)
    return HoldState(zero, staleness, snapshots, inner_state)

  def update(
    updates: Tree,
    state: Any,
    params: Tree = None,
    *,
    pulled: Tree = None,
    **extra_args: Any,
  ) -> tuple[Tree, HoldState]:
    check_pulled('hold', pulled, state, params)
    if phases is None:
      extra_args = with_staleness(extra_args, state.staleness, pulled)
    else:
      extra_args = with_staleness(extra_args, state.staleness)
    updates, inner_state = inner.update(
      updates, state.inner_state, params, **extra_args
    )
    phase = (state.phase + 1) % pull_every
    params = optax.apply_updates(params, updates)

    def pull(now: jax.Array, staleness: jax.Array, held: Tree) -> Any:
      held = jax.tree.map(lambda x, new: jnp.where(now, new, x), held, params)
      return jnp.where(now, 0, staleness + 1), held

    # For each worker, or once for all.
    workers = jax.vmap(pull) if phases is not None else pull
    now = phase == (0 if phases is None else jnp.array(phases))
    staleness, snapshot = workers(now, state.staleness, state.snapshot)
    return updates, HoldState(phase, staleness, snapshot, inner_state)

  return optax.GradientTransformationExtraArgs(init, update)
