"""Room ``cli``: commands that take ``-- PATH…`` after their other arguments, as git's do."""

from __future__ import annotations

import typer

from dsbranch.cli.direct import DirectCommand

_KEY = "dsbranch.paths"


class PathsCommand(DirectCommand):
    """Sets aside what stands behind ``--``, which the parser would take for arguments."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if "--" in args:
            split = args.index("--")
            ctx.meta[_KEY] = args[split + 1 :]
            args = args[:split]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [*super().collect_usage_pieces(ctx), "[-- PATH...]"]


def given_paths(ctx: typer.Context) -> list[str]:
    paths: list[str] = ctx.meta.get(_KEY, [])
    return paths
