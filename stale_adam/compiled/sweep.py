"""Several runs as one program: the scan of `program`, vmapped over the runs.

The runs share loss, shapes, policy and the form of the optimizer. Rates, seeds
and orders of arrivals are data, and so are the states that the runs begin from.
vmap rounds matrix products differently: a run agrees with the same run alone to
rounding, which grows as the run goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam import server as server_lib
from stale_adam.compiled import decisions, legs, program
from stale_adam.problem import Batch, Params
from stale_adam.transforms import smoothing

# An optimizer from a run's rate: a traced scalar, or what else it depends on.
Optimizer = Callable[[Any], optax.GradientTransformation]


class Sweep:
  """Runs that train together.

  Args:
    loss: of all runs, as of `Problem`.
    optimizer: `optimizer(rate) -> optax transformation`; `rate` is traced.
    rates: of every run, a scalar or a pytree of them.
    seeds: of every run.
    servers: of every run, as `server.init` makes them or as `servers` returns
      them.
    versions: slots of the ring of versions: at least `decisions.span` of every
      server that the runs come to.
    cases: what pushes may do, as `decisions.Decisions.cases`.

  Raises:
    ValueError: if a version in flight has no slot in the ring.
  """

  def __init__(
    self,
    loss: Callable[[Params, Batch, jax.Array], jax.Array],
    optimizer: Optimizer,
    rates: Sequence[Any],
    seeds: Sequence[int],
    servers: Sequence[server_lib.Server],
    versions: int,
    cases: tuple[int, ...],
  ):
    self._versions = versions
    static = program.Static(
      *(loss, optax.identity(), None, None, None, versions, cases, 1)
    )
    self._rates = _stacked(rates)
    self._keys = jnp.stack([server_lib.keys(seed)[1] for seed in seeds])
    self._carry = _stacked([_carry(static, server) for server in servers])

    def scan(
      carry: Any, rate: Any, key: Any, case: Any, columns: Any, own: Any
    ) -> Any:
      made = static._replace(optimizer=optimizer(rate))
      return program.scan(made, carry, key, columns | {'case': case}, own)

    self._scan = jax.jit(
      jax.vmap(scan, in_axes=(0, 0, 0, None, 0, 0)), donate_argnums=0
    )

  @property
  def runs(self) -> int:
    """How many there are."""
    return len(self._keys)

  @property
  def nbytes(self) -> int:
    """Memory of the states of all runs."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(self._carry))

  def advance(self, parts: Sequence[legs.Part]) -> list[np.ndarray]:
    """Trains every run on its next pushes.

    Args:
      parts: of every run; of one that has ended, an empty one.

    Returns:
      The mean loss of every push, [pushes], of every run.
    """
    leg, losses = legs.Leg(parts, self._versions), []
    for rows in leg.rows():
      self._carry, found = self._scan(*self._arguments(rows))
      losses.append(found)
    sums = leg.own([np.asarray(x) for x in losses])
    count = parts[0].columns['ids'].shape[-1]
    return [x / np.asarray(count, x.dtype) for x in sums]

  def _arguments(self, rows: legs.Rows) -> tuple[Any, ...]:
    own = rows.ids, rows.batches
    known = self._carry, self._rates, self._keys
    return *known, rows.case, rows.columns, own

  def lower(self, rows: legs.Rows) -> jax.stages.Lowered:
    """The program for such rows, not yet compiled, to be looked at."""
    return self._scan.lower(*self._arguments(rows))

  def params(self, run: int) -> Params:
    """The parameters in force of a run."""
    return _at(self._carry.held[0], run)

  def evaluated(self, run: int) -> Params:
    """The parameters of a run to validate: smoothed, if the optimizer does."""
    params, state, *_ = self._carry.held
    return _at(smoothing.evaluated(params, state), run)

  def servers(
    self, bare: Mapping[int, server_lib.Server]
  ) -> dict[int, server_lib.Server]:
    """The servers of some runs, in host memory.

    Args:
      bare: the same servers by run, without arrays, as `decisions.dry` yields
        them.
    """
    carry = jax.device_get(self._carry)
    at = lambda run: jax.tree.map(lambda x: x[run], carry)
    return {run: _server(at(run), server) for run, server in bare.items()}

  def keep(self, runs: Sequence[int]) -> None:
    """Goes on with these runs, numbered anew; one may occur several times."""
    places = np.array(runs)
    chosen = lambda tree: jax.tree.map(lambda x: x[places], tree)
    self._carry, self._rates = chosen(self._carry), chosen(self._rates)
    self._keys = self._keys[places]


@jax.jit
def _at(stacked: Any, run: Any) -> Any:
  return jax.tree.map(lambda x: x[run], stacked)


def _stacked(trees: Sequence[Any]) -> Any:
  return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def _carry(static: program.Static, server: server_lib.Server) -> program.Carry:
  """Where a run begins: as `program.begin`, with all versions in flight."""
  if (span := decisions.span(server)) > static.kept:
    raise ValueError(
      f'versions={static.kept}: a run of the sweep has {span} versions in '
      f'flight; use {span} or more'
    )
  snapshots = [sent.snapshot for sent in server.held.values()]
  known = {s.version: s.params for s in (*snapshots, server.published)}
  known[server.version] = server.params
  slots = {version % static.kept: known[version] for version in sorted(known)}
  ring = [slots.get(slot, server.params) for slot in range(static.kept)]
  carry = program.begin(static, server)
  return carry._replace(pullable=_stacked(ring))


def _server(carry: program.Carry, bare: server_lib.Server) -> server_lib.Server:
  """A run's server; a version that several workers hold is one array."""
  params, optimizer_state, _, accumulator, loss = carry.held
  known = {bare.version: params}

  def snapshot(found: Any) -> Any:
    if found.version not in known:
      kept = len(jax.tree.leaves(carry.pullable)[0])
      known[found.version] = jax.tree.map(
        lambda x: x[found.version % kept], carry.pullable
      )
    return found._replace(params=known[found.version])

  return bare._replace(
    params=params,
    optimizer_state=optimizer_state,
    accumulator=accumulator if bare.summed else None,
    loss=loss,
    published=snapshot(bare.published),
    held={
      worker: sent._replace(snapshot=snapshot(sent.snapshot))
      for worker, sent in bare.held.items()
    },
  )
