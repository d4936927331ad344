"""What tools/lab runs."""

from tools.laboratory.command import lab

lab(prog_name="tools/lab")
