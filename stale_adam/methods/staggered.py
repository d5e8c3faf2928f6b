"""Artificial staleness as the authors' code has it: worker after worker."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stale_adam import checks
from stale_adam.methods import parts
from stale_adam.problem import Params
from stale_adam.server import Visible
from stale_adam.transforms.parts import copies


class StaggerState(NamedTuple):
  """State of `stagger_pulls`.

  Attributes:
    updates: so far, an int32 scalar.
    snapshots: the parameters that each worker has; N on the first axis.
    inner_state: the optimizer's.
  """

  updates: jax.Array
  snapshots: Params
  inner_state: Any


def stagger_pulls(
  optimizer: optax.GradientTransformation, workers: int, pull_every: int
) -> dict[str, Any]:
  """Renew the snapshot of one worker after the other, each every U updates.

    theta_w <- theta_v   after update v, if v mod U = floor(w U / N)

  Other replies repeat the worker's snapshot. With U = `pull_every` of a
  synchronous `Communication`, all workers renew theirs after the same update:
  then the gradients of an update have one staleness, 0 to U - 1 in turn. Here
  they have several, whose mean changes little from update to update. Use it
  with that communication: what the server tells as staleness is exact for
  worker 0, and right on average.

  Args:
    optimizer: the server's.
    workers: N.
    pull_every: U.

  Returns:
    Arguments of `serve` and `simulate`: `optimizer` and `reply`.

  Raises:
    ValueError: if N or U is not a whole number from 1 on.

  Source: the code of Aji and Heafield (2019), a fork of Marian, staggers pulls;
    section 4.3 of the paper does not mention it. There U is 4 and the phase of
    w is w mod 4, the same as ours for 4 workers. That the phases are spread
    evenly for any N and U is ours.
  """
  checks.whole('workers', workers, 1)
  checks.whole('pull_every', pull_every, 1)
  inner = optax.with_extra_args_support(optimizer)
  phases = jnp.array([w * pull_every // workers for w in range(workers)])

  def init(params: Params) -> StaggerState:
    snapshots = copies(params, workers)
    return StaggerState(jnp.int32(0), snapshots, inner.init(params))

  def update(
    updates: Params, state: Any, params: Any = None, **extra_args: Any
  ) -> tuple[Params, StaggerState]:
    needed = parts.needed(params, 'stagger_pulls')
    updates, inner_state = inner.update(
      updates, state.inner_state, params, **extra_args
    )
    count = jnp.asarray(optax.safe_increment(state.updates))
    due = jnp.equal(count % pull_every, phases)

    def renew(held: jax.Array, new: jax.Array) -> jax.Array:
      return jnp.where(due.reshape(-1, *[1] * new.ndim), new, held)

    new = optax.apply_updates(needed, updates)
    snapshots = jax.tree.map(renew, state.snapshots, new)
    return updates, StaggerState(count, snapshots, inner_state)

  def reply(server: Visible, worker: Any) -> Params:
    state = parts.state_of(
      StaggerState, server.optimizer_state, 'stagger_pulls'
    )
    return jax.tree.map(lambda x: x[worker], state.snapshots)

  made = optax.GradientTransformationExtraArgs(init, update)
  return {'optimizer': made, 'reply': reply}
