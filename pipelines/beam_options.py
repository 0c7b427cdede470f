"""Beam's own options, passed through from our command line."""

from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from tierloom.errors import InputError

# Pinned: `DirectRunner` would choose between three engines by what it finds.
DEFAULT_RUNNER = "FnApiRunner"


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], PipelineOptions]:
    """What is not Beam's (the sources), and Beam's options.

    Raises `InputError` for an option that neither knows.
    """
    rest = _not_beams(arguments)
    if unknown := [argument for argument in rest if argument.startswith("-")]:
        raise InputError(f"no such option: {unknown[0]}; see --help for ours, Beam's own are passed through")
    flags = _without(arguments, rest)
    if not any(flag.split("=")[0] == "--runner" for flag in flags):
        flags.append(f"--runner={DEFAULT_RUNNER}")
    return rest, PipelineOptions(flags)


def _not_beams(arguments: Sequence[str]) -> list[str]:
    parser = _BeamArgumentParser(add_help=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    rest: list[str] = parser.parse_known_args(list(arguments))[1]
    return rest


def _without(arguments: Sequence[str], rest: Sequence[str]) -> list[str]:
    left = list(rest)
    flags = []
    for argument in arguments:
        if left and argument == left[0]:
            left.pop(0)
        else:
            flags.append(argument)
    return flags
