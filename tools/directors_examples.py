"""Writes the examples for directors in etc/ from those of etc/directors: python -m tools.directors_examples.

tests/registrar/distribution/directors/test_examples.py keeps both equal.
"""

from collections.abc import Mapping
from pathlib import Path

from registrar.command.directors import layout_in
from registrar.config import RegistrarConfig
from registrar.distribution.directors import haproxy, keepalived, nftables, sysctl
from registrar.distribution.directors.layout import Layout
from rollcall.ops.config import load

ETC = Path(__file__).parents[1] / "etc"
NAMES = ("small", "lvs", "haproxy", "nftables")


def examples(etc: Path = ETC) -> Mapping[Path, str]:
    """Return what each file has to be."""
    small, lvs, proxied, mapped = (layout_of_example(name, etc) for name in NAMES)
    files = {
        "keepalived/small-node1.conf": keepalived.render(small, "both", "node1"),
        "keepalived/lvs-lb1.conf": keepalived.render(lvs, "director", "lb1"),
        "keepalived/lvs-node1.conf": keepalived.render(lvs, "node", "node1"),
        "keepalived/haproxy-lb1.conf": keepalived.render(proxied, "director", "lb1"),
        "keepalived/nftables-lb1.conf": keepalived.render(mapped, "director", "lb1"),
        "haproxy/haproxy.cfg": haproxy.render(proxied),
        "nftables/rollcall.nft": nftables.render(mapped),
        "sysctl.d/60-rollcall-lvs-director.conf": sysctl.render(lvs, "director"),
        "sysctl.d/60-rollcall-lvs-node.conf": sysctl.render(lvs, "node"),
        "sysctl.d/60-rollcall-haproxy-director.conf": sysctl.render(proxied, "director"),
        "sysctl.d/60-rollcall-nftables-director.conf": sysctl.render(mapped, "director"),
    }
    return {etc / name: text for name, text in files.items()}


def layout_of_example(name: str, etc: Path = ETC) -> Layout:
    """Return what one of the examples says."""
    return layout_in(load(etc / "directors" / f"{name}.toml", RegistrarConfig))


if __name__ == "__main__":
    for path, text in examples().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
