"""TorchServe in, Explainer out."""
