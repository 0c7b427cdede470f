"""Driving DoFns in this process, without a runner: a stream's micro-batches are too small for one.

FnApiRunner takes two seconds to run a pipeline whose own work takes a quarter of one (measured).
"""

import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

# What a bundle put out beside its main outputs, by tag.
Aside = defaultdict[str, list[Any]]

# What Beam would tell a DoFn of each element, where it asks for that.
_PARAMETERS: Final = {beam.DoFn.TimestampParam: MIN_TIMESTAMP, beam.DoFn.WindowParam: GlobalWindow()}


def aside() -> Aside:
    """Nothing yet."""
    return defaultdict(list)


class InlineStep:
    """One DoFn that lives across bundles, until it is closed. For one thread."""

    def __init__(self, dofn: beam.DoFn) -> None:
        self._dofn = dofn
        parameters = inspect.signature(dofn.process).parameters.values()
        self._told = {p.name: _PARAMETERS[p.default] for p in parameters if p.default in _PARAMETERS}
        dofn.setup()

    def bundle(self, elements: Iterable[Any], *sides: Any, others: Aside) -> Iterator[Any]:
        """The main outputs of one bundle, each as soon as it is there; what is tagged goes to `others`.

        Chained steps are fused: an element is taken in when those before it have left. The bundle is done when its
        outputs are.
        """
        self._dofn.start_bundle()
        for element in elements:
            yield from _main(self._dofn.process(element, *sides, **self._told), others)
        yield from _main(self._dofn.finish_bundle(), others)

    def close(self) -> None:
        """Let go of what the DoFn holds."""
        self._dofn.teardown()


def _main(produced: Iterable[Any] | None, others: Aside) -> Iterator[Any]:
    for output in produced or ():
        if isinstance(output, TaggedOutput):
            others[output.tag].append(_value(output.value))
        else:
            yield _value(output)


def _value(output: Any) -> Any:
    return output.value if isinstance(output, WindowedValue) else output
