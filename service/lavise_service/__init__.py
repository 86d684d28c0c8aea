"""What serves: TorchServe's process and doors."""
