"""Lets twistd find the balancer without importing it."""

from twisted.application.service import ServiceMaker

balancer = ServiceMaker("balancer", "balancer.service", "Chooses the media node for each call", "balancer")
