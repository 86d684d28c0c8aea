"""Teaching: datasets, features, training, and the bundle that comes of them. Needs torch."""
