"""The HTTP door of the companion: the messages of lavise.v1 as JSON."""
