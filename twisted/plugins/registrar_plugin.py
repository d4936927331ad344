"""Lets twistd find the registrar without importing it."""

from twisted.application.service import ServiceMaker

registrar = ServiceMaker("registrar", "registrar.service", "SIP registrar and proxy", "registrar")
