"""Beam's own options, passed through from our command line."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, _BeamArgumentParser
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.utils.proto_utils import pack_Struct

from tierloom.errors import InputError
from tierloom.spending.terms import Allowance

# Pinned: `DirectRunner` would choose between three engines by what it finds.
DEFAULT_RUNNER = "FnApiRunner"
# Their workers are processes of this machine, or threads.
_LOCAL: Final = (DEFAULT_RUNNER, "DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner", "PrismRunner")
# What Beam's own options call an upper bound of the machines: Dataflow's, Flink's and Spark's.
_MACHINES: Final = ("max_num_workers", "num_workers", "parallelism")
# Its worker processes write to this terminal: what a user must know is in our errors and tables.
_WORKER_OPTIONS = {"beam:option:default_sdk_harness_log_level:v1": "CRITICAL"}


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], PipelineOptions]:
    """What is not Beam's (the sources), and Beam's options.

    Raises `InputError` for an option that neither knows.
    """
    rest = _not_beams(arguments)
    flags = _without(arguments, rest)
    if not any(flag.split("=")[0] == "--runner" for flag in flags):
        flags.append(f"--runner={DEFAULT_RUNNER}")
    options = PipelineOptions(flags)
    unknown = [argument for argument in rest if argument.startswith("-")]
    if unknown and not _asks_job_server(options):
        raise InputError(f"no such option: {unknown[0]}; see --help for ours, Beam's own are passed through")
    return [argument for argument in rest if argument not in unknown], PipelineOptions(flags + unknown)


def with_flags(options: PipelineOptions, flags: Sequence[str]) -> PipelineOptions:
    """The options with more of them, unless they are given already. They are written `--name` or `--name=value`."""
    given = {flag.split("=")[0] for flag in options._flags}
    return PipelineOptions([*options._flags, *(flag for flag in flags if flag.split("=")[0] not in given)])


def runner_of(options: PipelineOptions) -> str:
    """The name of the runner."""
    return str(options.view_as(StandardOptions).runner)


def with_machines(allowance: Allowance, options: PipelineOptions) -> Allowance:
    """The allowance, for as many machines as the runner may spread its workers over.

    Raises `InputError` when that is not known, and a cap depends on it.
    """
    if allowance.machines is not None or runner_of(options) in _LOCAL:
        return replace(allowance, machines=allowance.machines or 1)
    told = options.get_all_options()
    machines = max((told.get(name) or 0 for name in _MACHINES), default=0)
    if machines < 1 and allowance.caps:
        raise InputError(
            f"{allowance.caps}: {runner_of(options)} does not say over how many machines it spreads its workers, and "
            "each has its share of a cap; name the number with --machines"
        )
    return replace(allowance, machines=max(machines, 1))


def _asks_job_server(options: PipelineOptions) -> bool:
    """Whether the engine has options of its own, which only its job server knows (`--savepoint_path=...`)."""
    return runner_of(options) in ("FlinkRunner", "PortableRunner")


def new_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """A pipeline with these options. Raises `InputError` for what Beam refuses."""
    try:
        return beam.Pipeline(runner=_local_runner(options), options=options)
    except (ValueError, ImportError) as error:  # a runner that is unknown, not installed, or not fully told
        raise InputError(f"Beam refuses these options: {error}") from error


def _local_runner(options: PipelineOptions) -> FnApiRunner | None:
    """None for any other runner. This one does not hand its options to its worker processes."""
    if runner_of(options) != DEFAULT_RUNNER:
        return None
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=pack_Struct(**_WORKER_OPTIONS))
    return FnApiRunner(provision_info=ExtendedProvisionInfo(info))


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
