"""The Open Inference Protocol over gRPC, beside HTTP in each worker; imported only where it is turned on.

A message is translated to a request of `/v2` with binary tensors, and the reply back to a message. So the
rules, words, roles and logs are those of `serving.protocols.oip`, not a second set.
"""
