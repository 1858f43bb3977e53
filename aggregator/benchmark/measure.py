"""One stream from its stored exports to its summary."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aggregator.benchmark.outside import Outside, look_outside
from aggregator.benchmark.result import StreamResult
from aggregator.benchmark.run import num_units, run_stream
from aggregator.benchmark.stream import Stream
from aggregator.benchmark.summary import StreamSummary, summarise
from shared.console import Advance


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredStream:
    """A stream with all that was found of it, by seed."""

    summary: StreamSummary
    results: tuple[StreamResult, ...]
    outsides: tuple[Outside, ...]


def num_steps(streams: Iterable[Sequence[Stream]], methods: Sequence[str]) -> int:
    """How far ``measure_stream`` advances for all streams."""
    return sum(num_units(stream, methods) + 1 for seeds in streams for stream in seeds)


def measure_stream(
    seeds: Sequence[Stream],
    methods: Sequence[str],
    advance: Advance,
) -> MeasuredStream:
    """Run all methods on every seed of a stream; look at what is foreign to it.

    Args:
        seeds: of one stream.
        methods: names in ``METHODS``.
        advance: told after every stage of a method.
    """
    results, outsides = [], []
    for stream in seeds:
        name = f"{stream.record.name}, seed {stream.record.seed}"

        def note(units: int, text: str, name: str = name) -> None:
            advance(units, f"{name}: {text}")

        results.append(run_stream(stream, methods, note))
        outside = look_outside(stream)
        outsides += [] if outside is None else [outside]
        note(1, "what is foreign")
    steps = [stream.record.steps for stream in seeds]
    return MeasuredStream(summarise(results, outsides, steps), tuple(results), tuple(outsides))
