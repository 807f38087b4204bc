"""Bytes to a request and back: the express lane, the gateway, OpenAPI."""
