"""`rollcall check-sip` among the other commands: the console script goes past them, see registrar.command."""

import click

from registrar.distribution.directors.check_sip import run


@click.command("check-sip", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def check_sip(context: click.Context, words: tuple[str, ...]) -> None:
    """Ask a node for its health by OPTIONS; for keepalived."""
    try:
        context.exit(run(list(words)))
    except SystemExit as end:
        context.exit(int(str(end.code or 0)))
