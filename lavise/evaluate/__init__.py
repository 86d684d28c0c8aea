"""How right the words are: a bundle measured on annotated images. Needs no torch."""
