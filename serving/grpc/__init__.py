"""The Open Inference Protocol over gRPC, beside HTTP in each worker; imported only where it is turned on.

A message becomes the request of `/v2` with binary tensors that says the same, and its reply becomes a message
again. So the rules, words, roles and logs are those of `serving.protocols.oip`, not a second set.
"""

import os

# gRPC's core writes to standard error itself, also for what clients send: a pipe that nobody reads would
# stop its threads. And it would have itself told of each process that this one starts.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
