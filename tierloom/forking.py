"""Forked children: a lock that another thread held at the fork would be held for ever, and threads do not come along.

Prefork servers open a version once, then fork. Whoever owns locks or threads says here how they are made anew in a
child. A child has the one thread that forked, so all that the others were about is void.
"""

import itertools
import os
import weakref
from collections.abc import Callable
from typing import Any, Final

_Methods = dict[int, "weakref.WeakMethod[Callable[[], Any]]"]

_number: Final = itertools.count()
_remade: Final[_Methods] = {}
_resumed: Final[_Methods] = {}


def remake_in_children(remake: Callable[[], Any]) -> None:
    """Have a bound method called in every forked child, as long as its object lives."""
    _add(_remade, remake)


def resume_in_children(resume: Callable[[], Any]) -> None:
    """The same, when all that is to be made anew has been: here threads may be started."""
    _add(_resumed, resume)


def _add(methods: _Methods, method: Callable[[], Any]) -> None:
    # Setting and popping one entry of a dict needs no lock, and no fork can fall into the middle of it.
    number = next(_number)
    methods[number] = weakref.WeakMethod(method, lambda _: methods.pop(number, None))


def _in_child() -> None:
    for known in (*_remade.values(), *_resumed.values()):
        if (method := known()) is not None:
            method()


os.register_at_fork(after_in_child=_in_child)
