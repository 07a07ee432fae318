"""The messages of the gRPC services. Generated from the ``.proto`` files beside it by ``make proto``.

Generated with the oldest compiler whose code runs on every protobuf that we allow. There is no
generated service code: that would refuse every grpcio older than its generator.
"""
