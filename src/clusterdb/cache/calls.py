"""A decorated function's calls: how arguments become a key and tags."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from .arguments import Template, call_key
from .errors import InvalidArgument
from .keys import check_key
from .options import resolve_tags

__all__ = ["CallKeys"]


class CallKeys:
    """From the arguments of a function to the key and tags of its result.

    Without ``template`` and ``key`` the key is automatic, over all arguments. Templates are checked
    at once, or at the first call where an annotation names what is defined later.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        template: str | None,
        key: Callable[..., str] | None,
        tags: Sequence[str],
    ) -> None:
        if template is not None and key is not None:
            raise InvalidArgument("a template and key= exclude each other: choose one")
        name = getattr(function, "__qualname__", None)
        if name is None:
            raise InvalidArgument(
                f"a {type(function).__qualname__} has no name to make keys of: decorate a function"
            )
        if name.endswith("<lambda>") and template is None and key is None:
            raise InvalidArgument(
                "lambdas share one name, so their keys would meet: give a template or key=, or "
                "decorate a function"
            )
        self.function = f"{function.__module__}.{name}"
        self._wrapped = function
        self._signature = inspect.signature(function)
        self._names = _plain_names(self._signature)
        self._template_text = template
        self._tag_texts = resolve_tags(tags)
        self._own_key = key
        self._ready = False
        self._template: Template | None = None
        self._tags: list[Template] = []
        self._prepare(last=False)

    def key_and_tags(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[str, tuple[str, ...]]:
        """The key of a call and its tags; raises what the function itself would for arguments
        that don't fit, and :class:`InvalidArgument` for one without a stable identity.
        """
        if not self._ready:
            self._prepare(last=True)
        arguments = self._bound(args, kwargs)
        if self._own_key is not None:
            key = check_key(self._own_key(*args, **kwargs))
        elif self._template is not None:
            key = check_key(self._template.fill(arguments))
        else:
            key = call_key(self.function, arguments)
        return key, tuple([tag.fill(arguments) for tag in self._tags])

    def _prepare(self, *, last: bool) -> None:
        """Read the templates; unless it is the ``last`` chance, not with annotations that can't be
        resolved yet.
        """
        try:
            hints = get_type_hints(self._wrapped)
        except (NameError, TypeError, AttributeError):
            if not last:
                return
            hints = {}
        parameters = {
            name: hints.get(name, parameter.annotation)
            for name, parameter in self._signature.parameters.items()
        }
        if self._template_text is not None:
            self._template = Template(self._template_text, parameters)
        self._tags = [Template(text, parameters) for text in self._tag_texts]
        self._ready = True

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, object]:
        if not kwargs and self._names is not None and len(args) == len(self._names):
            return dict(zip(self._names, args, strict=True))
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments


def _plain_names(signature: inspect.Signature) -> tuple[str, ...] | None:
    """The parameters' names where all can be given by position; ``None`` where some can't."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature.parameters.values()
    plain = all(parameter.kind in kinds for parameter in parameters)
    return tuple(signature.parameters) if plain else None
