"""How a call sounds, from loss and delay: the E-model, simplified (ITU-T G.107, with the codecs' figures of G.113).

The rating R goes from 0 to 93.2, which is a call over G.711 without loss and delay. Below 70 many users complain
(G.109). The factors that no network changes (noise, echo, loudness) have G.107's default values.
"""

from typing import NamedTuple

PERFECT_R = 93.2
"""What is left when all is at its default and nothing is lost."""
POOR_R = 70.0
"""A call below that is poor: "many users dissatisfied" (G.109)."""
NOTICED_DELAY_MS = 177.3
"""From here on delay disturbs the conversation."""


class Codec(NamedTuple):
    """What a codec does to speech by itself (Ie), and how well it bears loss (Bpl)."""

    impairment: float
    robustness: float


G711 = Codec(0.0, 25.1)
"""With concealment of lost packets (G.113, Table I.4), as phones have it."""
CODECS = {
    "PCMU": G711,
    "PCMA": G711,
    "G729": Codec(11.0, 19.0),
    "G723": Codec(15.0, 16.1),
    "GSM-EFR": Codec(5.0, 10.0),
}
"""By their names in SDP (G.113, Tables I.1 and I.4). The narrow-band model has no place for the gain of wide-band
codecs (G722, opus): they, and whatever is not here, count as G.711. What has to be right is which way is better."""


def r_factor(loss: float, delay_ms: float, codec: str = "PCMU", burst: float = 1.0) -> float:
    """Return R for this loss (0 to 1) and one-way delay from mouth to ear.

    `burst` is G.107's BurstR: 1 when packets are lost by chance, more when they are lost in a row.
    """
    impairment, robustness = CODECS.get(codec, G711)
    percent = 100.0 * loss
    rating = PERFECT_R - impairment - 0.024 * delay_ms - (95.0 - impairment) * percent / (percent / burst + robustness)
    if delay_ms > NOTICED_DELAY_MS:
        rating -= 0.11 * (delay_ms - NOTICED_DELAY_MS)
    return rating if rating > 0.0 else 0.0


def counted_as(codec: str) -> str:
    """Return the name under which this codec, in any letters, has figures of its own; empty where G.711's count."""
    name = codec.upper()
    return name if CODECS.get(name, G711) is not G711 else ""


def mos(r: float) -> float:
    """Return the mean opinion that listeners would have of such calls, from 1 to 4.5 (G.107, Annex B)."""
    if r <= 0.0:
        return 1.0
    if r >= 100.0:
        return 4.5
    # between 0 and 6.5 the formula falls below 1 by a hair
    return max(1.0, 1.0 + 0.035 * r + 7e-6 * r * (r - 60.0) * (100.0 - r))
