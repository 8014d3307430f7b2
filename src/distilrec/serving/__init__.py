"""Code that travels with a registered model. It imports nothing of distilrec and no torch."""
