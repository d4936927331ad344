"""Lets `python -m registrar.command` run the command."""

from registrar.command import main

main()
