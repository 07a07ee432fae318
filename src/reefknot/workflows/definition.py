"""A workflow as its author writes it: a function with a name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec

from reefknot.errors import Invalid, NotFound, WorkflowChanged
from reefknot.workflows import values

if TYPE_CHECKING:
    from reefknot.workflows._async.workflow import AsyncWorkflow
    from reefknot.workflows._sync.workflow import Workflow

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
#: The width of the column that holds the name when it is called back.
MOST_NAME_CHARACTERS = 45


class Definition(Generic[P, R]):
    """What both kinds of workflow have in common: name, arguments and result as they are recorded.

    Arguments are recorded as a JSON object by the names of the parameters. A function whose only
    parameter is of type ``bytes`` gets the recorded bytes as they are, so that a client in another
    language may have started it.

    Attributes:
        name: how the server calls it back.
        undo_failed_step: whether a step that was refused is undone too; None: if a barrier guards it.
    """

    def __init__(self, function: Callable[..., Any], name: str, *, undo_failed_step: bool | None) -> None:
        self.name = name
        self.undo_failed_step = undo_failed_step
        self._function = function
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters:
            raise Invalid("function", f"{function.__qualname__} has no parameter", "its first one is the workflow, w")
        self._handle = parameters[0].name
        for parameter in parameters[1:]:
            if parameter.kind not in _PLAIN:
                problem = f"{function.__qualname__} takes {parameter}, and recorded arguments have names"
                raise Invalid("function", problem, "name each parameter")
        self._signature = inspect.Signature(parameters[1:])

    def encode_arguments(self, positional: tuple[Any, ...], named: dict[str, Any]) -> bytes:
        """The arguments as they are recorded.

        Raises:
            TypeError: they do not fit the function, as in a plain call.
            Invalid: they cannot be recorded.
        """
        bound = self._signature.bind(*positional, **named)
        bound.apply_defaults()
        if self._only_bytes:
            (value,) = bound.arguments.values()
            return values.encode(value, bytes, next(iter(bound.arguments)))
        data = values.json_arguments(bound.arguments)
        try:
            self.decode_arguments(data)
        except WorkflowChanged as error:
            raise Invalid("arguments", f"would not come back as they are: {error.what}") from error
        return data

    def decode_arguments(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What ``encode_arguments`` made, to call the function with.

        Raises:
            WorkflowChanged: the function's parameters are others now.
        """
        bound = self._signature.bind_partial()
        if self._only_bytes:
            bound.arguments[next(iter(self._signature.parameters))] = data
            return bound.args, bound.kwargs
        try:
            found = values.read_arguments(data, self._arguments)
        except (ValueError, TypeError) as error:
            what = f"the recorded arguments do not fit the workflow {self.name!r}: {error}"
            raise WorkflowChanged(what, advice="let new parameters have a default, and keep the types") from error
        for name in self._signature.parameters:
            bound.arguments[name] = getattr(found, name)
        return bound.args, bound.kwargs

    def same_arguments(self, one: bytes, other: bytes) -> bool:
        """Whether two records hold the same arguments, whichever process and version wrote them.

        Defaults, spaces, and the order of keys and of the items of a set make no difference.

        Raises:
            WorkflowChanged: the function's parameters are others now.
        """
        if one == other or self._only_bytes:
            return one == other
        first, second = self.decode_arguments(one), self.decode_arguments(other)
        return first == second or values.in_order(first) == values.in_order(second)

    def encode_result(self, value: Any) -> bytes:
        """What the function returned, as it is recorded.

        Raises:
            Invalid: it cannot be recorded, or would not come back as it is.
        """
        return values.encode(value, self._hints.get("return", Any), "result")

    def decode_result(self, data: bytes) -> R:
        """What ``encode_result`` made.

        Raises:
            NotFound: there is none, although the function returns something.
            Invalid: it is of another type.
        """
        try:
            return cast("R", values.decode(data, self._hints.get("return", Any), "result"))
        except Invalid as error:
            if data:
                raise
            what = f"the workflow {self.name!r} has succeeded, and the server does not tell what it returned"
            raise NotFound(what, advice="ask a DTM server over HTTP; over gRPC it tells no results") from error

    def check(self) -> None:
        """Look the annotations up, which can only be done when the module is complete.

        Raises:
            Invalid: one of them cannot be found, or is of a type that cannot be recorded.
        """
        try:
            msgspec.json.Decoder(self._arguments)
        except TypeError as error:
            raise Invalid("function", f"the parameters of {self.name!r}: {error}") from error

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return values.hints(self._function, without=self._handle)

    @property
    def _only_bytes(self) -> bool:
        names = list(self._signature.parameters)
        return len(names) == 1 and self._hints.get(names[0]) is bytes

    @cached_property
    def _arguments(self) -> type[msgspec.Struct]:
        fields: list[tuple[str, Any, Any]] = []
        for name, parameter in self._signature.parameters.items():
            has_none = parameter.default is inspect.Parameter.empty
            default = msgspec.NODEFAULT if has_none else msgspec.field(default_factory=_giving(parameter.default))
            fields.append((name, self._hints.get(name, Any), default))
        return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)


class WorkflowFunction(Definition[P, R]):
    """A workflow in a plain function; made by ``workflow``."""

    def __call__(self, w: Workflow, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, as a part of another workflow: its steps become that one's."""
        return cast("R", self._function(w, *args, **kwargs))


class AsyncWorkflowFunction(Definition[P, R]):
    """A workflow in an ``async def``; made by ``workflow``."""

    async def __call__(self, w: AsyncWorkflow, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, as a part of another workflow: its steps become that one's."""
        return cast("R", await self._function(w, *args, **kwargs))


def misplaced(function: object, where: str) -> Invalid:
    """The error for something that was given to ``Workflows`` or ``AsyncWorkflows`` and cannot be run by it."""
    if not isinstance(function, Definition):
        name = getattr(function, "__qualname__", repr(function))
        return Invalid("functions", f"{name} is no workflow", "decorate it with @workflow(name)")
    awaited = isinstance(function, AsyncWorkflowFunction)
    kind, fit = ("an async def", "AsyncWorkflows") if awaited else ("a plain function", "Workflows")
    return Invalid("functions", f"{function.name!r} is {kind}, which {where} cannot run", f"give it to {fit}")


class WorkflowDecorator(Protocol):
    """Makes a workflow of a function."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[AsyncWorkflow, P], Coroutine[Any, Any, R]], /
    ) -> AsyncWorkflowFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Workflow, P], R], /) -> WorkflowFunction[P, R]: ...


def workflow(name: str, *, undo_failed_step: bool | None = None) -> WorkflowDecorator:
    """Make a workflow of a function.

        @workflow("transfer")
        def transfer(w: Workflow, amount: int) -> None: ...

        @workflow("transfer")
        async def transfer(w: AsyncWorkflow, amount: int) -> None: ...

    The function may be called again at any time, from its beginning: steps that are recorded return what they
    returned. So everything that it decides by must be an argument or the result of a step; a clock, a random
    number or a query belongs into ``w.do``. ``Failure`` rolls the steps back; with any other exception nothing is
    decided, and the server calls the function again later.

    Args:
        name: how the server calls it back; keep it as long as such workflows are under way.
        undo_failed_step: whether the step that was refused is undone too, which its undo must then allow for.
            None: one that a barrier guards is, as in a saga (a call, ``xa``, ``branch().do``), because a copy of it
            may still be under way and the undo lets the barrier keep it out; a function of ``do`` is not.

    Raises:
        Invalid: the name is empty, longer than 45 characters or cannot be printed, or the function has no
            parameter for the workflow, or takes ``*args`` or ``**kwargs``.
    """
    if not name or len(name) > MOST_NAME_CHARACTERS or not name.isprintable():
        fix = f"give 1 to {MOST_NAME_CHARACTERS} characters that can be printed"
        raise Invalid("name", f"{name!r} cannot name a workflow", fix)

    def made(function: Callable[..., Any], /) -> Any:
        kind = AsyncWorkflowFunction if inspect.iscoroutinefunction(function) else WorkflowFunction
        return kind(function, name, undo_failed_step=undo_failed_step)

    return cast("WorkflowDecorator", made)


def _giving(default: Any) -> Callable[[], Any]:
    return lambda: default
