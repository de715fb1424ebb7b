"""`taskstream delays …`."""

import typer

from taskstream.admin.cli.arguments import (
    AppPath,
    AsJson,
    Commands,
    new_table,
    open_app,
    print_json,
    print_table,
)


def register(cli: typer.Typer) -> None:
    """Adds `delays` to the command line."""
    delays = typer.Typer(cls=Commands, no_args_is_help=True)
    delays.command("list", epilog="Example: taskstream delays list shop.main:app --json")(
        list_delays
    )
    cli.add_typer(
        delays,
        name="delays",
        help="Tasks and retries that wait for their time.",
        epilog="Example: taskstream delays list shop.main:app",
    )


def list_delays(app: AppPath, *, as_json: AsJson = False) -> None:
    """List the delay tiers: how many tasks wait in each, and for how long its topic keeps them."""
    from taskstream.admin.delays import tiers
    from taskstream.core.tiers import span_name

    found = tiers(open_app(app))
    if as_json:
        print_json([tier.as_json() for tier in found])
        return
    table = new_table(("span", "topic"), ("partitions", "waiting", "kept"))
    for tier in found:
        kept = "-" if tier.kept_s is None else _whole(tier.kept_s)
        table.add_row(
            span_name(tier.span_s), tier.topic, str(tier.partitions), str(tier.waiting), kept
        )
    print_table(table)
    for tier in found:
        if tier.flaw:
            typer.secho(tier.flaw, fg="red", err=True)


def _whole(seconds: float) -> str:
    """A length of time as days and what is left of them: 7d, 7d 30s, 14h."""
    from taskstream.core.tiers import DAY, span_name

    days, rest = divmod(seconds, DAY)
    words = [span_name(days * DAY)] if days else []
    return " ".join([*words, span_name(rest)] if rest or not words else words)
