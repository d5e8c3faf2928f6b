"""Whether a transformation works element by element, found out by tracing it.

Such a transformation may run on parameters that are joined to a few vectors:
it computes the same numbers in fewer and longer loops.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stale_adam.problem import Params

Extra = Callable[[Params], Mapping[str, Any]]

# One element of the result depends on the same element of every operand.
_ELEMENTWISE = frozenset(
  'abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp '
  'convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc '
  'exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p '
  'logistic lt max min mul ne neg nextafter not or pow '
  'reduce_precision rem round rsqrt select_n shift_left '
  'shift_right_arithmetic shift_right_logical sign sin sinh sqrt square '
  'stop_gradient sub tan tanh xor'.split()
)
# Calls of a traced function, by the parameter that holds it.
_CALLS = {
  'jit': 'jaxpr',
  'pjit': 'jaxpr',
  'closed_call': 'call_jaxpr',
  'core_call': 'call_jaxpr',
  'custom_jvp_call': 'call_jaxpr',
  'custom_vjp_call': 'call_jaxpr',
  'checkpoint': 'jaxpr',
}
_LENGTH = 3  # Of the vectors to compare with.


class _NotElementwise(Exception):
  """An operation that mixes elements, or may do so."""


class _Value(NamedTuple):
  """What is known of an array.

  Attributes:
    expression: number of what it was computed by; equal numbers, equal values.
    leaf: the parameters' leaf that it belongs to; None if it is shared by all.
    uniform: whether it is a scalar, or one value at every element.
  """

  expression: int
  leaf: int | None
  uniform: bool


class _Expressions:
  """Numbers expressions: equal ones get the same number."""

  def __init__(self) -> None:
    self._numbers: dict[Any, int] = {}

  def of(self, *parts: Any) -> int:
    return self._numbers.setdefault(parts, len(self._numbers))


def on_vectors(
  transformation: optax.GradientTransformation,
  params: Params,
  extra: Extra = lambda params: {},
) -> bool:
  """Whether parameters joined to vectors give the same numbers as the tree.

  True if init and update compute each element of what they return from that
  element of gradient, parameters and state, and from scalars that depend on
  none of these, by the same expression for all leaves of a type. So it is for
  Adam, SGD with momentum or Lion. Norms and factored moments mix elements,
  masks distinguish leaves, noise differs from element to element: False.

  Both functions are traced on the tree and on a vector, and the expressions of
  all results compared. Nothing is declared, computed or compiled.

  Args:
    transformation: any optax transformation.
    params: arrays, or their shapes and dtypes.
    extra: the extra arguments of update, from parameters; none by default.
  """
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params
  )
  expressions = _Expressions()
  try:
    found = _traced(expressions, transformation, shapes, extra)
    leaves = jax.tree.leaves(shapes)
    for dtype in {x.dtype for x in leaves}:
      vector = jax.ShapeDtypeStruct((_LENGTH,), dtype)
      wanted = _traced(expressions, transformation, vector, extra)
      for i, leaf in enumerate(leaves):
        if leaf.dtype == dtype and found.of(i) != wanted.of(0):
          return False
  # A transformation that cannot run on a vector may raise anything.
  except Exception:
    return False
  return True


class _Program(NamedTuple):
  """What a transformation computes.

  Attributes:
    parts: for every result, its place, and the expressions of its leaves, or of
      the one array that it is.
  """

  parts: Sequence[tuple[str, tuple[int, ...] | int]]

  def of(self, leaf: int) -> list[tuple[str, int]]:
    """The expressions that concern a leaf."""
    return [
      (place, found if isinstance(found, int) else found[leaf])
      for place, found in self.parts
    ]


def _traced(
  expressions: _Expressions,
  transformation: optax.GradientTransformation,
  shapes: Params,
  extra: Extra,
) -> _Program:
  """Traces init and update on parameters of these shapes."""
  told: Any = {}
  if isinstance(transformation, optax.GradientTransformationExtraArgs):
    told = jax.eval_shape(lambda params: dict(extra(params)), shapes)
  start = jax.eval_shape(transformation.init, shapes)

  def update(updates: Any, state: Any, params: Any, told: Any) -> Any:
    return transformation.update(updates, state, params, **told)

  parts = _parts(expressions, 'init', transformation.init, shapes, (shapes,))
  parts += _parts(
    *(expressions, 'update', update, shapes, (shapes, start, shapes, told))
  )
  return _Program(parts)


def _parts(
  expressions: _Expressions,
  name: str,
  function: Callable[..., Any],
  shapes: Params,
  arguments: tuple[Any, ...],
) -> list[Any]:
  """Places and expressions of a function's results; see `_Program`."""
  closed, results = jax.make_jaxpr(function, return_shape=True)(*arguments)
  values = []
  for place, count in _places(arguments, shapes):
    source = expressions.of('argument', place)
    if count is None:
      values.append(_Value(source, None, True))
    else:
      values += [_Value(source, leaf, False) for leaf in range(count)]
  for value, variable in zip(values, closed.jaxpr.invars, strict=True):
    if value.leaf is None and variable.aval.shape:
      raise _NotElementwise(f'{variable.aval} in the state')
  found = _run(expressions, closed.jaxpr, closed.consts, values)
  parts: list[Any] = []
  rest = iter(found)
  for place, count in _places(results, shapes):
    taken = [next(rest) for _ in range(1 if count is None else count)]
    for leaf, value in enumerate(taken):
      if value.leaf not in (None, None if count is None else leaf):
        raise _NotElementwise(f'{place} mixes leaves')
      if value.leaf is None and not value.uniform:
        raise _NotElementwise(f'{place} differs from element to element')
    numbers = tuple(value.expression for value in taken)
    key = f'{name}: {place}'
    parts.append((key, numbers[0] if count is None else numbers))
  return parts


def _places(tree: Any, shapes: Params) -> list[tuple[str, int | None]]:
  """Where the arrays of a tree lie.

  Returns:
    A pair for every subtree that has structure and shapes of the parameters,
    with the number of its leaves, and for every other leaf, with None.
  """
  structure: Any = jax.tree.structure(shapes)
  wanted = [x.shape for x in jax.tree.leaves(shapes)]

  def like(node: Any) -> bool:
    if jax.tree.structure(node) != structure:
      return False
    return [jnp.shape(x) for x in jax.tree.leaves(node)] == wanted

  found = jax.tree_util.tree_flatten_with_path(tree, is_leaf=like)[0]
  return [
    (jax.tree_util.keystr(path), len(wanted) if like(node) else None)
    for path, node in found
  ]


def _run(
  expressions: _Expressions,
  jaxpr: Any,
  constants: Sequence[Any],
  arguments: Sequence[_Value],
) -> list[_Value]:
  """The values that a traced function returns.

  Raises:
    _NotElementwise: if it mixes elements.
  """
  known = dict(zip(jaxpr.invars, arguments, strict=True))
  for variable, constant in zip(jaxpr.constvars, constants, strict=True):
    known[variable] = _constant(expressions, constant)

  def read(atom: Any) -> _Value:
    if hasattr(atom, 'val'):  # A literal.
      return _constant(expressions, atom.val)
    return known[atom]

  for equation in jaxpr.eqns:
    inputs = [read(atom) for atom in equation.invars]
    outputs = _apply(expressions, equation, inputs)
    known |= dict(zip(equation.outvars, outputs, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def _constant(expressions: _Expressions, constant: Any) -> _Value:
  if isinstance(constant, jax.core.Tracer):  # It has no value yet.
    number = expressions.of('traced', id(constant))
    return _Value(number, None, not constant.shape)
  array = np.asarray(constant)
  text = hashlib.sha256(array.tobytes()).hexdigest()
  number = expressions.of('constant', str(array.dtype), array.shape, text)
  return _Value(number, None, not array.shape)


def _apply(
  expressions: _Expressions, equation: Any, inputs: list[_Value]
) -> list[_Value]:
  """The values that an operation returns."""
  name, parameters = equation.primitive.name, equation.params
  if name == 'cond':
    return _conditional(expressions, parameters['branches'], inputs)
  if name in _CALLS:
    inner = parameters[_CALLS[name]]
    jaxpr, constants = inner, ()
    if hasattr(inner, 'consts'):
      jaxpr, constants = inner.jaxpr, inner.consts
    return _run(expressions, jaxpr, constants, inputs)
  if name == 'optimization_barrier':  # It returns what it gets.
    return inputs
  leaves = {value.leaf for value in inputs} - {None}
  avals = [variable.aval for variable in equation.outvars]
  numbers = tuple(value.expression for value in inputs)
  types = tuple(str(aval.dtype) for aval in avals)
  uniform = all(value.uniform for value in inputs)
  shapes = {tuple(v.aval.shape) for v in equation.invars} - {()}
  same = all({aval.shape} == (shapes or {()}) for aval in avals)
  spread = name in ('broadcast_in_dim', 'reshape', 'squeeze')
  if not leaves and uniform and spread:
    # One value at every element, whatever the shape: the value.
    return inputs[:1]
  if not leaves and not (uniform and name in _ELEMENTWISE):
    # Shared by all leaves: anything may be done to it, shapes included.
    text = str(sorted(parameters.items()))
    number = expressions.of(name, text, types, numbers)
    return [
      _Value(expressions.of('result', i, number), None, not aval.shape)
      for i, aval in enumerate(avals)
    ]
  if name in ('broadcast_in_dim', 'reshape') and same:
    return inputs[:1]
  if len(leaves) > 1 or name not in _ELEMENTWISE or (leaves and not same):
    raise _NotElementwise(name)
  if any(value.leaf is None and not value.uniform for value in inputs):
    raise _NotElementwise(f'{name} with values that differ')
  leaf = next(iter(leaves), None)
  number = expressions.of(name, str(sorted(parameters.items())), types, numbers)
  return [_Value(number, leaf, leaf is None)]


def _conditional(
  expressions: _Expressions, branches: Sequence[Any], inputs: list[_Value]
) -> list[_Value]:
  """The results of `lax.cond`, each an expression of the branches' results."""
  which, *operands = inputs
  if which.leaf is not None:
    raise _NotElementwise('a condition on parameters')
  columns = zip(
    *(_run(expressions, b.jaxpr, b.consts, operands) for b in branches),
    strict=True,
  )
  found = []
  for column in columns:
    leaves = {value.leaf for value in column} - {None}
    shared = [value for value in column if value.leaf is None]
    if len(leaves) > 1 or (leaves and not all(v.uniform for v in shared)):
      raise _NotElementwise('a condition that mixes leaves')
    numbers = [value.expression for value in column]
    number = expressions.of('cond', which.expression, *numbers)
    uniform = all(value.uniform for value in column)
    found.append(_Value(number, next(iter(leaves), None), uniform))
  return found
