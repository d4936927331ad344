"""A call through a media node, as tests begin with it."""

from typing import Any

from registrar.media.session import Session, Side

ALICE_SDP = (b"v=0\r\no=alice 5 7 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
             b"m=audio 4000 RTP/AVP 8 0\r\n")
BOB_SDP = b"v=0\r\no=bob 3 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 5000 RTP/AVP 8\r\n"
NOW = 1_000_000.0
OWNER = "n1:1"


def a_session(**changed: Any) -> Session:
    """Return a call from alice to bob that was answered ten seconds ago."""
    values: dict[str, Any] = {
        "call_id": "c1", "id": "s1", "node": "m1", "address": "127.0.0.1:22222", "owner": OWNER, "group": "general",
        "caller": Side(tag="a", address="<sip:alice@example.com>;tag=a", contact="<sip:alice@192.0.2.1>", cseq=1,
                       sdp=ALICE_SDP, host="192.0.2.1", group="tel/DE"),
        "callee": Side(tag="b", address="<sip:bob@example.com>;tag=b", contact="<sip:bob@192.0.2.2>", sdp=BOB_SDP,
                       host="192.0.2.2", group="net/FR"),
        "started_at": NOW - 15, "answered_at": NOW - 10, "expires_at": NOW + 3600,
    }
    return Session(**(values | changed))
