"""The Open Inference Protocol over gRPC, beside HTTP in each worker; imported only where it is turned on.

A message is translated to a request of `/v2` with binary tensors, and the reply back to a message. So the
rules, words, roles and logs are those of `serving.protocols.oip`, not a second set.
"""

import os

# gRPC's core writes to standard error itself, also when clients send malformed data: a full pipe would block
# its threads. And its fork handlers would run for each process that this one starts.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
