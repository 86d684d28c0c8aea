"""The companion: the public face of LaViSE, gRPC and HTTP in front of TorchServe."""
