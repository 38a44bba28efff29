"""The commands that take many runs, as argparse sees them: `study` and `explore`."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import names, number, place, source, whole


def add_study(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The `study` command."""
    study = commands.add_parser("study", help="a grid of versions of one scenario, or a search in it; kept as it goes")
    study.add_argument(
        "study", metavar="STUDY", type=source, help="a study file, e.g. scenarios/studies/draft_length.yaml"
    )
    study.add_argument("--out", metavar="DIR", type=place, help="where study.sqlite is kept (default: out/NAME)")
    who = study.add_mutually_exclusive_group()
    who.add_argument(
        "--workers", metavar="N", type=whole(1, 1024), help="processes (default: one a core; 1: this one alone)"
    )
    who.add_argument("--cluster", metavar="ADDRESS", help="a running Dask scheduler, tcp://HOST:PORT")
    study.add_argument("--yes", action="store_true", help="run thousands of points without asking")
    which = study.add_mutually_exclusive_group()
    which.add_argument("--search", action="store_true", help="look for the best points instead of running all")
    which.add_argument("--grid", action="store_true", help="run all points, though the file says `search`")
    study.add_argument("--retry-failed", action="store_true", help="run points again that failed")
    study.add_argument(
        "--set", metavar="PATH=VALUE", action="append", default=[], help="change one value of the scenario; repeatable"
    )
    study.add_argument("--csv", metavar="FILE", type=place, help="also all points as a CSV")
    study.add_argument("--parquet", metavar="FILE", type=place, help="also all points as a Parquet file")
    study.add_argument("--plot", metavar="FILE", type=place, help="also a picture (PNG, SVG or PDF)")


def run_study(options: argparse.Namespace) -> int:
    """Run a study on one thread a process, which has to be said before anything heavy is imported."""
    from hilsim.study.threads import single_threaded

    single_threaded()
    from hilsim.commands.study import StudyOptions, study_command

    return study_command(
        StudyOptions(
            file=options.study,
            overrides=options.set,
            out=options.out,
            workers=options.workers,
            cluster=options.cluster,
            yes=options.yes,
            search=options.search,
            grid=options.grid,
            retry_failed=options.retry_failed,
            csv=options.csv,
            parquet=options.parquet,
            plot=options.plot,
        )
    )


def add_explore(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The `explore` command."""
    explore = commands.add_parser(
        "explore", help="which placement of all? every role, unit, precision, width, draft, link, rule and policy"
    )
    explore.add_argument("scenario", metavar="SCENARIO", type=source, help="a scenario file with live logits")
    explore.add_argument(
        "--set", metavar="PATH=VALUE", action="append", default=[], help="change one value first; repeatable"
    )
    explore.add_argument(
        "--objective", metavar="NAME", default="request_latency",
        help="request_latency (default), first_clause, throughput, energy, link_bytes or memory",
    )  # fmt: skip
    explore.add_argument(
        "--against", metavar="NAMES", type=names, default=["memory", "energy"],
        help="what the Pareto set weighs it against (memory,energy)",
    )  # fmt: skip
    explore.add_argument(
        "--latency-target",
        metavar="MS",
        type=number(1e-6, 1e12),
        help="nine of ten answers must have their first clause by then",
    )
    explore.add_argument("--memory-free", metavar="MIB", type=number(1e-6, 1e12), help="to be left free on every chip")
    explore.add_argument(
        "--limit", metavar="MEASURE<=X", action="append", default=[], help="any other bound, or MEASURE>=X; repeatable"
    )
    explore.add_argument(
        "--cloud", action="store_true", help="allow models outside the car, target and draft; talk leaves it then"
    )
    explore.add_argument("--chips", metavar="NAMES", type=names, default=[], help="further chips to place models on")
    explore.add_argument("--links", metavar="NAMES", type=names, default=[], help="links (default: all in chips/links)")
    explore.add_argument(
        "--drafts", metavar="PAIRS", type=names, default=[], help="MODEL:STAND_IN,... instead of all of the vocabulary"
    )
    explore.add_argument(
        "--only", metavar="KEY=VALUES", action="append", default=[],
        help="narrow an axis, such as target.unit=npu or policy.name=sync,pearl; repeatable",
    )  # fmt: skip
    explore.add_argument(
        "--conversations", metavar="N", type=whole(1, 1024), help="how many (default: the scenario's, 24 at least)"
    )
    explore.add_argument(
        "--finalists", metavar="N", type=whole(0, 100), default=3, help="run event by event and written (3)"
    )
    explore.add_argument("--workers", metavar="N", type=whole(1, 1024), help="processes (default: one a core)")
    explore.add_argument("--yes", action="store_true", help="screen more than half a million without asking")
    explore.add_argument("--out", metavar="DIR", type=place, help="a scenario file for each finalist")
    explore.add_argument("--csv", metavar="FILE", type=place, help="every screened configuration")
    explore.add_argument("--plot", metavar="FILE", type=place, help="a picture of all (PNG, SVG or PDF)")


def run_explore(options: argparse.Namespace) -> int:
    """Explore on one thread a process: the processes are the parallel part."""
    from hilsim.study.threads import single_threaded

    single_threaded()
    from hilsim.commands.explore import ExploreOptions, explore

    return explore(
        ExploreOptions(
            file=options.scenario,
            overrides=options.set,
            objective=options.objective,
            against=options.against,
            limits=options.limit,
            latency_target_ms=options.latency_target,
            memory_free_mib=options.memory_free,
            cloud=options.cloud,
            chips=options.chips,
            links=options.links,
            drafts=options.drafts,
            only=options.only,
            conversations=options.conversations,
            finalists=options.finalists,
            workers=options.workers,
            yes=options.yes,
            out=options.out,
            csv=options.csv,
            plot=options.plot,
        )
    )
