"""Fluentd's Forward protocol, version 1: what log shippers send, as lines of streams."""
