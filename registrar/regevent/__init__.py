"""The reg event package (RFC 3680): subscribers are told who is registered, and where, and of every change of it."""
