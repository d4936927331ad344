"""REGISTERs as phones send them: what may stand in each part of a usual one, and what may not, with the reason.

HOST in a value of To stands for what is in the Request-URI.
"""

from collections.abc import Sequence
from random import Random

USUAL: dict[str, tuple[bytes, ...]] = {
    "start": (
        b"REGISTER sip:example.com SIP/2.0",
        b"REGISTER sip:example.com:5062 SIP/2.0",
        b"REGISTER sip:192.0.2.9 SIP/2.0",
        b"REGISTER sip:Example.COM SIP/2.0",
        b"REGISTER sip:[2001:db8::9] SIP/2.0",
        b"REGISTER sip:a-b.c_d SIP/2.0",
        b"REGISTER sip:1.2.3.4.example.com SIP/2.0",
    ),
    "Via": (
        b"SIP/2.0/TCP 192.168.1.20:5060;branch=z9hG4bKabc123;rport",
        b"SIP/2.0/UDP 192.0.2.7;rport;branch=z9hG4bKq",
        b"SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK56sdasks",
        b"SIP/2.0/TLS Phone_1:65535;alias;branch=z9hG4bK-1.=x",
        b"SIP/2.0/UDP [2001:db8::7]:5060;branch=z9hG4bK77",
        b"SIP/2.0/UDP [2001:DB8:0::7];branch=z9hG4bK78;rport;alias",
        b"SIP/2.0/UDP [192.0.2.7];branch=z9hG4bK9",
        b"SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK9",
    ),
    "From": (
        b'"Alice" <sip:alice@example.com>;tag=88sja8x',
        b"<sip:alice@example.com>;tag=1",
        b"sip:alice@example.com;tag=1",
        b"Alice B. <sips:alice@example.com;x=y?z=1>;tag=a=b",
        b"Jos\xc3\xa9 <tel:+4930>;tag=\xff",
        b'"a, <b>; c"\t<sip:a@b>;tag=1',
        b"tel:+4930;tag=1",
    ),
    "To": (
        b'"Alice" <sip:alice@HOST>',
        b"<sip:alice@HOST>",
        b"sip:alice@HOST",
        b"A <sip:+49;a=b,c/d?@HOST>",
        b"<sip:a&=+$@HOST>",
        b'"tag=1; <x>"<sip:alice@HOST>',
        b"Jos\xc3\xa9\xff <sip:(!*')@HOST>",
        b"sip:a&=+$/b~@HOST",
    ),
    "Call-ID": (b"843817637684230@998sdasdh09", b"1", b'<{"a:\\b?"}>'),
    "CSeq": (b"1826 REGISTER", b"0 REGISTER", b"2147483647 REGISTER", b"0000000007 REGISTER"),
    "Contact": (
        b"<sip:alice@192.168.1.20:5060;transport=tcp>;expires=600",
        b"<sip:alice@192.168.1.20>",
        b"sip:alice@192.168.1.20:5060",
        b'<sip:a@1.2.3.4>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>";reg-id=1;expires=60',
        b'"Alice, at home" <sip:a@1.2.3.4>;expires=0;methods="INVITE,ACK"',
        b"<sip:[2001:db8::5]:5080>;x;y=z",
        b"<sip:%41lice;x,y?z#@h_1.example.com;a=b;c;d=%20[::]>",
        b"Jos\xc3\xa9 <sip:a@b.invalid;transport=ws;ob>;reg-id=1",
        b"<sip:a@[::1:2:3]>",
        b"<sip:a@[1:2:3:4:5:6:7::]>",
        b"<sip:a@[::]>",
        b"<sip:a@b>;expires=4294967295;audio",
        b"<sip:a@b>;expires=0000000060",
        b"<sip:a@b>;reg-id=0",
    ),
    "Expires": (b"3600", b"0", b"4294967295", b"0000000060"),
    "Max-Forwards": (b"70", b"0", b"255", b"007"),
    "User-Agent": (b"Phone 1.0", b"", b"\xff \t x", b"Yealink SIP-T46S 66.86.0.15"),
    "Content-Length": (b"0", b"00"),
    "Authorization": (
        b'Digest username="alice", realm="example.com", nonce="abc==", uri="sip:example.com", '
        b'response="0123456789ABCDEF0123456789abcdef", algorithm=MD5, cnonce="0a4f113b", qop=auth, nc=00000001',
        b'digest  qop="auth",nc=fF,cnonce="=",response="x",uri="sip:a;b=c",nonce="n, nc=1",realm="r r" ,username="u"',
        b'Digest username="u",realm="r",nonce="n",uri="x",response="r",cnonce="c",nc=1,qop=auth,opaque="",'
        b"algorithm=md5",
    ),
    "Supported": (b"path, outbound", b"gruu,Path ,\tOUTBOUND", b"replaces", b"", b"path,path"),
    "Allow": (b"INVITE, ACK, BYE",),
    "X-Other": (b"anything", b"", b'"<,;\\\xff', b"a\tb"),
}

_PLAIN = b'Digest username="u",realm="r",nonce="n",uri="x",response="r",cnonce="c",nc=1,qop=auth'

UNUSUAL: dict[str, dict[str, tuple[bytes, ...]]] = {
    "start": {
        "another request": (b"OPTIONS sip:example.com SIP/2.0", b"INVITE sip:bob@example.com SIP/2.0"),
        "a response": (b"SIP/2.0 200 OK",),
        "no registrar's address": (
            b"REGISTER sips:example.com SIP/2.0",
            b"REGISTER sip:example.com;lr SIP/2.0",
            b"REGISTER sip:a@example.com SIP/2.0",
            b"REGISTER sip: SIP/2.0",
        ),
        "another spelling": (
            b"register sip:example.com SIP/2.0",
            b"REGISTER SIP:example.com SIP/2.0",
            b"REGISTER sip:example.com sip/2.0",
            b"REGISTER  sip:example.com SIP/2.0",
            b"REGISTER sip:example.com. SIP/2.0",
            b"REGISTER sip:example.com:05060 SIP/2.0",
            b"REGISTER sip:[2001:0db8::9] SIP/2.0",
            b"REGISTER sip:[::ffff:192.0.2.1] SIP/2.0",
        ),
        "another version": (b"REGISTER sip:example.com SIP/3.0", b"REGISTER sip:example.com SIP/2.01"),
        "no host": (
            b"REGISTER sip:256.1.1.1 SIP/2.0",
            b"REGISTER sip:1.2.3 SIP/2.0",
            b"REGISTER sip:01.2.3.4 SIP/2.0",
            b"REGISTER sip:[::1 SIP/2.0",
            b"REGISTER sip:[] SIP/2.0",
            b"REGISTER sip:[:] SIP/2.0",
            b"REGISTER sip:-.com. SIP/2.0",
            b"REGISTER sip:a..b SIP/2.0",
            b"REGISTER sip:-a SIP/2.0",
        ),
        "no port": (b"REGISTER sip:example.com:0 SIP/2.0", b"REGISTER sip:example.com:65536 SIP/2.0",
                    b"REGISTER sip:example.com: SIP/2.0"),
    },
    "Via": {
        "several hops": (b"SIP/2.0/TCP a;branch=z9hG4bKa, SIP/2.0/UDP b",),
        "no branch that names a transaction": (
            b"SIP/2.0/TCP 192.168.1.20:5060;branch=z9hG4bK",
            b"SIP/2.0/TCP a;branch=1;rport",
            b"SIP/2.0/TCP a;branch=Z9hG4bKa",
            b"SIP/2.0/TCP a;rport",
            b"SIP/2.0/TCP a",
        ),
        "another spelling": (
            b"SIP/2.0/tcp a;branch=z9hG4bKa",
            b"SIP / 2.0 / TCP a;branch=z9hG4bKa",
            b"SIP/2.0/TCP  a;branch=z9hG4bKa",
            b"SIP/2.0/TCP a;Branch=z9hG4bKa",
            b"SIP/2.0/TCP a:5060 ;branch=z9hG4bKa",
            b"SIP/2.0/TCP a; branch=z9hG4bKa",
            b'SIP/2.0/TCP a;branch="z9hG4bKa"',
            b"SIP/2.0/TCP a;branch=z9hG4bK\xc3\xa9",
        ),
        "a parameter twice": (
            b"SIP/2.0/TCP a;branch=z9hG4bKa;branch=z9hG4bKb",
            b"SIP/2.0/TCP a;branch=z9hG4bKa;rport;rport",
            b"SIP/2.0/TCP a;branch=z9hG4bKa;alias;alias",
        ),
        "a parameter that means more": (
            b"SIP/2.0/TCP a;branch=z9hG4bKa;rport=5",
            b"SIP/2.0/TCP a;branch=z9hG4bKa;received=1.2.3.4",
            b"SIP/2.0/TCP a;branch=z9hG4bKa;ttl=1",
            b"SIP/2.0/TCP a;rportx;branch=z9hG4bKa",
        ),
        "malformed": (
            b"SIP/2.0/TCP a;branch=z9hG4bKa;rport=",
            b"SIP/2.0/TCP a:0;branch=z9hG4bKa",
            b"SIP/2.0/TCP a:99999;branch=z9hG4bKa",
            b"SIP/2.0/TCP .a;branch=z9hG4bKa",
            b"SIP/2.0/TCP [];branch=z9hG4bKa",
            b"SIP/2.0/TCP a;branch=z9hG4bKa;",
            b"SIP/2.0/TCP",
            b"SIP/2.0/",
        ),
    },
    "From": {
        "no tag": (b"<sip:alice@example.com>", b"<sip:a@b>;tag="),
        "more than a tag": (b"<sip:alice@example.com>;tag=1;x=y", b"<sip:a@b>;tag=1,<b>;tag=2", b"sip:a@b?x;tag=1"),
        "another spelling": (b"<sip:a@b>; tag=1", b"<sip:a@b>;TAG=1", b'"a\\"b" <sip:a@b>;tag=1'),
        "malformed": (
            b"<>;tag=1",
            b"<sip:>;tag=1",
            b"<sip:a b@c>;tag=1",
            b"<1ip:a@c>;tag=1",
            b'"a <sip:a@b>;tag=1',
            b"a, b <sip:a@b>;tag=1",
            b"<sip:a@b;tag=1",
        ),
    },
    "To": {
        "a dialog": (b"<sip:alice@HOST>;tag=1",),
        "a parameter": (b"<sip:alice@HOST>;x", b"<sip:alice@HOST;user=phone>"),
        "another domain": (b"<sip:alice@other.com>", b"<sip:alice@HOST:1>"),
        "another scheme": (b"<sips:alice@HOST>", b"<tel:+4930>"),
        "another spelling": (
            b"<sip:al%69ce@HOST>",
            b"<sip:*21#@HOST>",
            b"<SIP:alice@HOST>",
            b'"\\a" <sip:alice@HOST>',
        ),
        "no user, or a password": (b"<sip:HOST>", b"<sip:@HOST>", b"<sip:alice:pw@HOST>"),
        "malformed": (
            b"sip:a;b@HOST",
            b"sip:a,b@HOST",
            b"sip:a?b@HOST",
            b"<sip:alice@HOST",
            b"sip:alice@HOST>",
            b"<<sip:alice@HOST>",
            b">",
            b"<",
            b"",
        ),
    },
    "Call-ID": {"malformed": (b"a b", b"\xc3\xa9", b"a\tb", b"")},
    "CSeq": {
        "out of range": (b"2147483648 REGISTER", b"9999999999 REGISTER", b"-1 REGISTER"),
        "another method": (b"1 register", b"1 INVITE", b"1 REGISTERS"),
        "another spelling": (b"1  REGISTER", b"1\tREGISTER", b"00000000007 REGISTER"),
        "malformed": (b"REGISTER", b" REGISTER", b"1", b""),
    },
    "Contact": {
        "not one address": (b"*", b"<sip:a@b>, <sip:c@d>", b""),
        "another scheme": (b"<sips:a@b>", b"<tel:+49>", b"a@b"),
        "a parameter that means more": (b"<sip:a@b>;q=0.5", b"<sip:a@b>;pub-gruu=x", b"<sip:a@b>;temp-gruu=x"),
        "more than where the phone is": (b"<sip:a:pw@b>", b"<sip:a@b?x=y>"),
        "no number of seconds": (
            b"<sip:a@b>;expires=4294967296",
            b"<sip:a@b>;expires=",
            b"<sip:a@b>;expires",
            b'<sip:a@b>;expires="60"',
            b"<sip:a@b>;expires=00000000060",
        ),
        "expires among other parameters": (b"<sip:a@b>;a=1;expires=60;b=2",),
        "a parameter twice": (
            b"<sip:a@b>;a;a",
            b"<sip:a@b>;expires=1;expires=2",
            b"<sip:a@b;x;X>",
            b"<sip:a@b;%61;a>",
        ),
        "too many parameters": (
            b"<sip:a@b" + b"".join(b";p%d" % i for i in range(17)) + b">",
            b"<sip:a@b>" + b"".join(b";p%d" % i for i in range(17)),
        ),
        "another spelling": (
            b"<sip:a@b>;A=1",
            b"<sip:a@b> ;expires=60",
            b'<sip:a@b>;x="\\a"',
            b"<sip:a@b.>",
            b"<sip:a@b:070>",
            b"<sip:a@[:::1]>",
            b"<sip:a@[::1.2.3.4]>",
            b"<sip:a@b\xc3\xa9>",
            b"sip:a@b;expires=60",
        ),
        "malformed": (
            b"<sip:a@b>;x=<y>",
            b"<sip:a@b>;x=a,b",
            b"<sip:a@b;x=%4>",
            b"<sip:a@b%>",
            b"<sip:@b>",
            b"<sip:a@>",
            b"<sip:a@b:>",
            b"<sip:a@b:0>",
            b"<sip:a@[1::2::3]>",
            b"<sip:a@[1:2:3:4:5:6:7]>",
            b"<sip:a@[12345::]>",
            b"<sip:a@[1:2:3:4:5:6:7:8:9]>",
            b"<sip:a@[1:]>",
            b"<sip:a@[::1]",
            b"sip:a@b;x=y",
            b"sip:a,b@c",
            b"<sip:a@b>x",
            b"<sip:a@b>;",
            b"<sip:a@b>;x=",
        ),
    },
    "Expires": {"no number of seconds": (b"4294967296", b"1h", b"", b"-1", b"00000003600", b"60;x")},
    "Max-Forwards": {"out of range": (b"256", b"0255"), "malformed": (b"", b"x", b"7 0")},
    "Content-Length": {
        "a body": (b"1", b"5"),
        "malformed": (b"", b"00000000000", b"0x", b"99999999999999999999", b"-0", b"0,0"),
    },
    "Authorization": {
        "another scheme": (b"Basic YWxpY2U6c2VjcmV0",),
        "another algorithm": (_PLAIN + b",algorithm=SHA-256", _PLAIN + b",algorithm=MD5-sess"),
        "another quality of protection": (
            _PLAIN.removesuffix(b',cnonce="c",nc=1,qop=auth'),
            _PLAIN + b"-int",
            _PLAIN.replace(b"=auth", b'="AUTH"'),
        ),
        "something missing": (
            b"Digest",
            b"Digest ",
            b'Digest username="u"',
            _PLAIN.replace(b'"u"', b'""'),
            _PLAIN.replace(b"nc=1", b"nc="),
            _PLAIN.replace(b'"n"', b'""').replace(b'"r",cn', b'"",cn'),
        ),
        "a parameter twice": (_PLAIN + b",nc=2", _PLAIN.replace(b"realm", b'username="v",realm')),
        "a parameter that means more": (_PLAIN + b",stale=true",),
        "another spelling": (
            b'DIGEST username="u"',
            _PLAIN + b",",
            _PLAIN.replace(b'"u"', b'"\\u"'),
            _PLAIN.replace(b'"u"', b'"\xc3\xa9"'),
            _PLAIN.replace(b'"u"', b"u"),
            _PLAIN.replace(b"user", b"User"),
        ),
        "malformed": (
            _PLAIN.replace(b"nc=1", b"nc=123456789"),
            _PLAIN.replace(b",realm", b"\trealm"),
            _PLAIN.replace(b",realm", b" realm"),
            _PLAIN.replace(b'"c"', b'"c'),
        ),
    },
    "Supported": {
        "malformed": (b"path;q=1", b"path outbound", b"pa\xc3\xa9th", b'"path"'),
        "another spelling": (b"path,", b",path", b","),
    },
    "Require": {"something that must be understood": (b"path", b"")},
    "Proxy-Require": {"something that must be understood": (b"x",)},
    "Path": {"a way back": (b"<sip:p;lr>",)},
    "Route": {"a way on": (b"<sip:p;lr>",)},
    "Record-Route": {"a proxy": (b"<sip:p;lr>",)},
}

ALWAYS = ("Via", "From", "To", "Call-ID", "CSeq", "Contact")
OFTEN = ("Max-Forwards", "User-Agent", "Expires", "Supported", "Authorization", "Content-Length", "Allow", "X-Other")
RARELY = ("Require", "Proxy-Require", "Path", "Route", "Record-Route")
COMPACT = {
    "Via": b"v", "From": b"f", "To": b"t", "Call-ID": b"i", "Contact": b"m", "Content-Length": b"l", "Supported": b"k",
}
COLONS = (b": ", b": ", b": ", b":", b" : ", b"\t:\t ", b":  ")
BLANKS = (b"", b"", b"", b" ", b"\t ")
CRUMBS = (
    b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b"\x01", b"\x1f", b"\x7f", b"\x80", b"\xc3\xa9", b"\r\n ", b"\r\n\r\n",
    b";", b",", b'"', b"<", b">", b":", b"=", b"%", b"\\", b"[", b"]", b"@", b".", b"-", b"_", b"#", b"?", b"/", b"*",
    b"|", b"{", b"`", b"~", b"0", b"9", b"a", b"A", b"%4", b"%41", b"[::1]", b"sip:", b"sips:", b"99999999999",
    b"REGISTER", b";expires=1", b";tag=x", b";rport", b";branch=z9hG4bKx", b";q=1", b", nc=1", b"\r\nContent-Length: 5",
    b"\r\nl: 0", b"\r\nRequire: x", b"\r\nCall-ID : z",
)


def register_of(start: bytes, headers: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a REGISTER of these headers, and of usual ones where it cannot do without."""
    given = {name for name, _ in headers}
    place = start.split(b" ")[1].rpartition(b"sip:")[2] if b" sip:" in start else b"example.com"
    lines = [start]
    for name, value in [*headers, *((name, USUAL[name][0]) for name in ALWAYS if name not in given)]:
        lines.append(name.encode() + b": " + value.replace(b"HOST", place))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def a_register(random: Random, oddity: float = 0.02) -> bytes:
    """Return a REGISTER each part of which is unusual with probability `oddity`."""
    start = _value(random, "start", oddity)
    names = [*ALWAYS, *(name for name in OFTEN if random.random() < 0.6)]
    names += [name for name in (*RARELY, *ALWAYS, *OFTEN) if random.random() < oddity / 8]
    if random.random() < 0.3:
        random.shuffle(names)
    data = register_of(start, [(name, _value(random, name, oddity)) for name in names])
    lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    lines[1:] = [_respelled(random, line) for line in lines[1:]]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _value(random: Random, name: str, oddity: float) -> bytes:
    odd = UNUSUAL.get(name)
    if odd and (name not in USUAL or random.random() < oddity):
        return random.choice(odd[random.choice(list(odd))])
    return random.choice(USUAL[name])


def _respelled(random: Random, line: bytes) -> bytes:
    name, _, value = line.partition(b": ")
    spellings = (name, name, name, name.lower(), name.upper(), COMPACT.get(name.decode(), name))
    return random.choice(spellings) + random.choice(COLONS) + value + random.choice(BLANKS)


def mutated(random: Random, data: bytes) -> bytes:
    """Return `data` with one thing changed."""
    place = random.randrange(len(data) + 1)
    kind = random.randrange(8)
    if kind == 0:
        return data[:place] + bytes([random.randrange(256)]) + data[place + 1 :]
    if kind == 1:
        return data[:place] + random.choice(CRUMBS) + data[place:]
    if kind == 2:
        return data[:place] + random.choice(CRUMBS) + data[place + 1 :]
    if kind == 3:
        return data[:place] + data[place + random.randrange(1, 9) :]
    if kind == 4:
        return data[:place]
    return _with_lines_mutated(random, data, kind)


def _with_lines_mutated(random: Random, data: bytes, kind: int) -> bytes:
    lines = data.split(b"\r\n")
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    if kind == 5:
        lines.insert(one, lines[other])
    elif kind == 6:
        del lines[one]
    else:
        lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)
