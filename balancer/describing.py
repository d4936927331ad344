"""What a balancer's configuration would do, in words: `twistd balancer --check`."""

from collections.abc import Iterator

from balancer.config import BalancerConfig


def described(config: BalancerConfig, name: str) -> Iterator[str]:
    """Yield lines for people; `name` is what this balancer is called among the others."""
    nodes, ingest, redis = config.nodes, config.ingest, config.redis
    named = ", ".join(f"{node.id} at {node.address}" for node in nodes)
    yield f"media nodes  {named or 'those that announce themselves'}"
    heard = [*(f"HEP over UDP at {each}" for each in ingest.hep_udp),
             *(f"HEP over TCP at {each}" for each in ingest.hep_tcp),
             *(f"RTCP of {each.node} at {each.address}" for each in ingest.rtcp)]
    yield f"reports      {', '.join([*heard, 'over HTTP'])}"
    if config.publication.enabled:
        yield (f"publishes    as {name} in Redis, {redis.mode} at {', '.join(redis.addresses)}"
               f"{' (TLS)' if redis.tls else ''}")
    else:
        yield "publishes    nothing: [publication] enabled is false, and registrars do not hear of this balancer"
    yield f"calls        are placed by {config.rule.policy}"
    if config.redirect.listeners:
        yield f"redirects    at {', '.join((*config.redirect.udp, *config.redirect.tcp))}"
    unknown = sorted(set(config.tenants.values()) - {group for node in nodes for group in node.groups})
    if unknown:
        yield f"warning      [tenants] names groups that no [[node]] is in: {', '.join(unknown)}"
    yield f"admin site   {config.admin.url}"
