"""The small words of SIP's grammar: tokens, quoted strings, comma lists, parameters (RFC 3261 §25.1)."""

import re

from rollcall.sip.errors import ParseError

TOKEN_CHARS = r"\-A-Za-z0-9.!%*_+`'~"

_TOKEN = re.compile(f"[{TOKEN_CHARS}]+")
_ESCAPABLE = re.compile(r'(["\\])')
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)

# Parameters as nearly everybody writes them: no white space, nothing quoted. More may stand in a value
# than in a token or host, as base64 does in the branches and tags of many.
_PLAIN_PARAMS = re.compile(rf'(?>(?:;[{TOKEN_CHARS}]++(?>(?:=[^\x00-\x20\x7f";,<>]++)?))*)')

# generic-param = token [ EQUAL ( token / host / quoted-string ) ], with the white space that SEMI and EQUAL allow.
_PARAM = re.compile(
    rf"[ \t]*+;[ \t]*+([{TOKEN_CHARS}]++)[ \t]*+"
    r'(?>(?:=[ \t]*+("(?>(?:[^"\\]++|\\.)*)"|[^\x00-\x20\x7f";,<>]++)[ \t]*+)?)',
    re.DOTALL,
)

# One value of a comma list: quoted strings and <URIs> may hold commas.
_VALUE = re.compile(r'(?>(?:[^,"<]++|"(?>(?:[^"\\]++|\\.)*)"|<[^>]*+>)*)', re.DOTALL)


def is_token(text: str) -> bool:
    """Tell whether `text` is a token, e.g. a method or the name of a header."""
    return _TOKEN.fullmatch(text) is not None


def quote(text: str) -> str:
    """Return `text` as a quoted-string. CR and LF cannot be written in one and become spaces."""
    text = text.replace("\r", " ").replace("\n", " ")
    return '"' + _ESCAPABLE.sub(r"\\\1", text) + '"'


def unquote(text: str) -> str:
    """Return what a quoted-string says; any other text comes back as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    return _QUOTED_PAIR.sub(r"\1", inner) if "\\" in inner else inner


def first_comma(text: str) -> int:
    """Return where the first value of a comma list ends: the place of its comma, or the length of `text`.

    Raises ParseError when a quoted string or a "<" is never closed.
    """
    if "," not in text:
        return len(text)
    return _value_end(text, 0)


def split_commas(text: str) -> list[str]:
    """Return the values of a comma list, trimmed; none for blank text, empty ones as "".

    Commas inside quoted strings and <> separate nothing (RFC 3261 §7.3.1). Raises ParseError when
    a quoted string or a "<" is never closed.
    """
    if "," not in text:
        text = text.strip(" \t")
        return [text] if text else []
    if '"' not in text and "<" not in text:
        return [value.strip(" \t") for value in text.split(",")]
    values = []
    start = 0
    while True:
        end = _value_end(text, start)
        values.append(text[start:end].strip(" \t"))
        if end == len(text):
            return values
        start = end + 1


def _value_end(text: str, start: int) -> int:
    found = _VALUE.match(text, start)
    end = found.end() if found else start
    if end < len(text) and text[end] != ",":
        raise ParseError("unterminated quoted string or <")
    return end


def parse_params(text: str) -> dict[str, str | None]:
    """Return the parameters in e.g. `;tag=a;x="y z";lr`: names in lower case, values raw, None without value.

    `text` is empty or begins at the first semicolon. Quoted values keep their quotes. Raises
    ParseError on anything else, and when a name comes twice (RFC 3261 §7.3.1).
    """
    if not text:
        return {}
    if _PLAIN_PARAMS.fullmatch(text):
        params: dict[str, str | None] = {}
        pieces = text.split(";")
        for piece in pieces[1:]:
            name, equal, value = piece.partition("=")
            params[name.lower()] = value if equal else None
        if len(params) != len(pieces) - 1:
            raise ParseError("parameter given twice")
        return params
    return _parse_spaced_params(text)


def _parse_spaced_params(text: str) -> dict[str, str | None]:
    params: dict[str, str | None] = {}
    place, end = 0, len(text)
    while place < end:
        found = _PARAM.match(text, place)
        if found is None:
            if not text[place:].strip(" \t"):
                break
            raise ParseError("malformed parameter")
        name = found[1].lower()
        if name in params:
            raise ParseError("parameter given twice")
        params[name] = found[2]
        place = found.end()
    return params


def format_params(params: dict[str, str | None]) -> str:
    """Return the text that `parse_params` reads."""
    return "".join([f";{name}" if value is None else f";{name}={value}" for name, value in params.items()])
