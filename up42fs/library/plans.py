"""One body for a method and its coroutine: the body names its questions, a driver asks them.

A plan is a coroutine that awaits nothing but a `Question`. `run` asks by calls that block, `arun`
in an asyncio loop; the plan knows neither. Knows nothing of the questions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")

Plan = Coroutine[Any, Any, T]


class Question:
    """A question: the name of a call, and its arguments."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name = name
        self.arguments = arguments

    def __await__(self) -> Generator[Question, Any, Any]:
        """The answer, once the driver has it."""
        return (yield self)


def run(plan: Plan[T], answer: Callable[[Question], Any]) -> T:
    """The result of a plan; `answer` blocks."""

    async def answered(ask: Question) -> Any:
        return answer(ask)

    try:
        arun(plan, answered).send(None)
    except StopIteration as result:
        value: T = result.value
        return value
    raise AssertionError("nothing in it waits")


async def arun(plan: Plan[T], answer: Callable[[Question], Awaitable[Any]]) -> T:
    """The result of a plan; `answer` is awaited."""
    said: Any = None
    error: Exception | None = None
    while True:
        try:
            ask = plan.send(said) if error is None else plan.throw(error)
        except StopIteration as result:
            value: T = result.value
            return value
        said, error = None, None
        try:
            said = await answer(ask)
        except Exception as raised:
            error = raised
        except BaseException:
            plan.close()
            raise
