"""A server whose parameters are spread over shards, read without a lock."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stale_adam import checks
from stale_adam.problem import Params
from stale_adam.server import Reply, Visible


def torn_reads(shards: int, seed: int = 0) -> Reply:
  """Reply with leaves of two versions, as a pull that an update overtakes.

  Leaf i lies on shard i mod S. Shard 0 is read first and has the published
  version. Each other one has the published version or the one in force, at
  random, as a function of seed, version, worker and shard: so a run is a
  function of the order of arrivals, as always, and replays. There are two
  versions only if pulls lag behind updates: use `OneRoundLate`, or
  `Communication` with pull_every > 1, where torn reads are fresher.

  Args:
    shards: S; one never tears.
    seed: of what is read.

  Returns:
    A reply for `serve` and `simulate`.

  Raises:
    ValueError: if S is not a whole number from 1 on, or the seed not one from 0
      to 2**32 - 1.

  Source: Recht, Re, Wright and Niu (2011), "Hogwild!", for reads without a
    lock, a paper that was not at hand; Marian's asynchronous server, in whose
    code each shard has a lock of its own. On a real server time decides which
    version is read. That the seed decides is ours.
  """
  checks.whole('shards', shards, 1)
  checks.seed(seed)

  def reply(server: Visible, worker: Any) -> Params:
    key = jax.random.key(np.uint32(seed))
    for number in (server.version, worker):
      key = jax.random.fold_in(key, number)
    newer = jax.random.bernoulli(key, shape=(shards,)).at[0].set(False)
    old, structure = jax.tree.flatten(server.published)
    new = jax.tree.leaves(server.params)
    pairs = enumerate(zip(old, new, strict=True))
    read = [jnp.where(newer[i % shards], y, x) for i, (x, y) in pairs]
    return jax.tree.unflatten(structure, read)

  return reply
